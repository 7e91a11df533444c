// SPDX-License-Identifier: Apache-2.0

package server

import (
	"strings"
	"testing"

	"kindred/api"
	"kindred/compat"
)

// TestReset: a device whose state was refused at its very end is the target's all
// the same, and no proof that the driver takes such state.
func TestReset(t *testing.T) {
	const text = "Failed setting device state to RUNNING_P2P"
	for name, c := range map[string]struct {
		first  *api.Completion // somebody said before, by HTTP
		with   *api.Completion
		proofs map[compat.Result]int
		reset  bool
	}{
		"all is well":      {with: nil, proofs: map[compat.Result]int{compat.Accepted: 1}},
		"nobody looked":    {with: &api.Completion{NoProof: true}},
		"one was refused":  {with: &api.Completion{Rejected: []api.Rejection{{Error: text}}}, proofs: map[compat.Result]int{compat.Rejected: 1}, reset: true},
		"it is said later": {first: &api.Completion{NoProof: true}, with: &api.Completion{Rejected: []api.Rejection{{Error: text}}}, proofs: map[compat.Result]int{compat.Rejected: 1}, reset: true},
		"said twice": {first: &api.Completion{Rejected: []api.Rejection{{Error: text}}}, with: &api.Completion{Rejected: []api.Rejection{{Error: text}}},
			proofs: map[compat.Result]int{compat.Rejected: 1}, reset: true},
	} {
		t.Run(name, func(t *testing.T) {
			// Two devices of one type prove the same: the refused one counts.
			a := newMachine("a", 6, &made{id: dev1, typ: "small", open: true}, &made{id: dev2, typ: "small", open: true})
			b := newMachine("b", 4)
			r := newRig(t, a, b)
			s := r.start(r.open())
			r.report(s, "a", "b")
			ctx := t.Context()
			as := serve(t, s, Identity{Name: "host:b", Host: "b"})
			m, err := as.CreateMigration(ctx, "", &api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: []string{dev1, dev2}, Target: "b"}})
			if err != nil {
				t.Fatal(err)
			}
			work := func() {
				t.Helper()
				for _, one := range []*machine{b, a} {
					if err := one.work(ctx, s.Server); err != nil {
						t.Fatal(err)
					}
				}
			}
			work()
			if m, err = as.HandOver(ctx, m.ID); err != nil {
				t.Fatal(err)
			}
			if c.first != nil {
				for i := range c.first.Rejected {
					c.first.Rejected[i].Device = m.Devices[1].Target
				}
				if _, err = as.CompleteWith(ctx, m.ID, c.first); err != nil {
					t.Fatal(err)
				}
			}
			if c.with != nil {
				for i := range c.with.Rejected {
					c.with.Rejected[i].Device = m.Devices[1].Target
				}
			}
			if m, err = as.CompleteWith(ctx, m.ID, c.with); err != nil || m.Host != "b" {
				t.Fatalf("%+v, %v", m, err)
			}
			for _, d := range a.devices {
				d.open = false
			}
			work()
			work()
			if m, err = as.Migration(ctx, m.ID); err != nil || m.State != api.Completed || (m.Code == api.DeviceReset) != c.reset {
				t.Fatalf("%+v, %v", m, err)
			}
			if c.reset && (!strings.Contains(m.Reason, text) || !strings.Contains(m.Reason, "was reset") || !strings.Contains(m.Reason, m.Devices[1].Target)) {
				t.Errorf("the reason is %q", m.Reason)
			}
			got := make(map[compat.Result]int)
			for _, p := range s.Proofs("", 0, api.ProofFilter{}).Proofs {
				got[p.Proof.Result]++
				if p.Proof.Result == compat.Rejected && p.Proof.Detail != text {
					t.Errorf("the proof says %q", p.Proof.Detail)
				}
			}
			if len(got) != len(c.proofs) || got[compat.Accepted] != c.proofs[compat.Accepted] || got[compat.Rejected] != c.proofs[compat.Rejected] {
				t.Errorf("proofs: %v, want %v", got, c.proofs)
			}
		})
	}
}

// TestRejectedLate: the source says first that the VM stayed, the target later why.
func TestRejectedLate(t *testing.T) {
	a, b := newMachine("a", 4, &made{id: dev1, typ: "small", open: true}), newMachine("b", 4)
	r := newRig(t, a, b)
	s := r.start(r.open())
	r.report(s, "a", "b")
	ctx := t.Context()
	source, target := serve(t, s, Identity{Name: "host:a", Host: "a"}), serve(t, s, Identity{Name: "host:b", Host: "b"})
	m, err := target.CreateMigration(ctx, "", &api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: []string{dev1}, Target: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.work(ctx, s.Server); err != nil {
		t.Fatal(err)
	}
	if m, err = target.HandOver(ctx, m.ID); err != nil {
		t.Fatal(err)
	}
	if m, err = source.Abort(ctx, m.ID, &api.Abort{Reason: "it failed"}); err != nil || m.Code != "" {
		t.Fatalf("%+v, %v", m, err)
	}
	for _, when := range []api.MigrationState{api.Aborting, api.Aborted} { // said twice, it is one proof
		if m, err = target.Abort(ctx, m.ID, &api.Abort{Rejected: "EINVAL"}); err != nil || m.State != when || m.Code != api.StateRejected || m.Host != "a" {
			t.Fatalf("%+v, %v", m, err)
		}
		if err := b.work(ctx, s.Server); err != nil {
			t.Fatal(err)
		}
	}
	list := s.Proofs("", 0, api.ProofFilter{}).Proofs
	if len(list) != 1 || list[0].Proof.Result != compat.Rejected || list[0].Proof.Detail != "EINVAL" {
		t.Errorf("proofs: %+v", list)
	}
}
