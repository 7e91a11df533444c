// SPDX-License-Identifier: Apache-2.0

package server

import (
	crand "crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kindred/api"
	"kindred/compat"
	"kindred/compat/proofs"
	"kindred/fleet"
	"kindred/server/store"
)

// TestDeadlines: a claim lapses, unless it is renewed or a migration has it.
func TestDeadlines(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "large"}, &made{id: dev2, typ: "large"}), newMachine("b", 2))
	s := r.start(r.open())
	r.report(s, "a", "b")
	ctx := t.Context()
	later := func(d time.Duration) {
		t.Helper()
		for ; d > 0; d -= 20 * time.Second {
			r.pass(20 * time.Second)
			r.report(s, "a", "b")
		}
		if err := s.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
	}
	req := api.ClaimRequest{Devices: []string{dev1}, Target: "b", TTL: api.Duration(time.Minute)}
	c, err := s.CreateClaim(ctx, "test", "", req)
	if err != nil {
		t.Fatal(err)
	}
	later(40 * time.Second)
	if c, err = s.Renew(ctx, c.ID, c.Revision, time.Minute); err != nil {
		t.Fatal(err)
	}
	_, err = s.Renew(ctx, c.ID, c.Revision-1, time.Minute)
	wantCode(t, err, api.RevisionChanged)
	later(40 * time.Second)
	_, err = s.CreateClaim(ctx, "test", "", api.ClaimRequest{Devices: []string{dev2}, Target: "b"})
	wantCode(t, err, api.NoRoom)
	later(40 * time.Second)
	if c, err = s.Claim(ctx, c.ID); err != nil || c.End != api.EndLapsed {
		t.Errorf("%+v, %v", c, err)
	}
	_, err = s.Renew(ctx, c.ID, 0, time.Minute)
	wantCode(t, err, api.ClaimEnded)
	_, err = s.CreateMigration(ctx, "test", "", api.MigrationRequest{Claim: c.ID})
	wantCode(t, err, api.ClaimEnded)

	// Of a migration that prepared, the room returns when the agent confirms.
	m, err := s.CreateMigration(ctx, "test", "", api.MigrationRequest{ClaimRequest: req})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.machines["b"].work(ctx, s.Server); err != nil {
		t.Fatal(err)
	}
	if m, err = s.Migration(ctx, m.ID); err != nil || m.State != api.Prepared {
		t.Fatalf("%+v, %v", m, err)
	}
	later(40 * time.Second)
	if _, err := s.Renew(ctx, m.Claim, 0, time.Minute); err != nil {
		t.Error(err)
	}
	later(40 * time.Second)
	if m, err = s.Migration(ctx, m.ID); err != nil || m.State != api.Prepared {
		t.Errorf("renewed: %+v, %v", m, err)
	}
	later(40 * time.Second)
	if m, err = s.Migration(ctx, m.ID); err != nil || m.State != api.Aborting || m.Code != api.DeadlinePassed {
		t.Errorf("late: %+v, %v", m, err)
	}
	_, err = s.CreateClaim(ctx, "test", "", api.ClaimRequest{Devices: []string{dev2}, Target: "b"})
	wantCode(t, err, api.NoRoom)
	r.machines["b"].work(ctx, s.Server)
	r.machines["b"].work(ctx, s.Server)
	if m, err = s.Migration(ctx, m.ID); err != nil || m.State != api.Aborted {
		t.Errorf("confirmed: %+v, %v", m, err)
	}
	if _, err := s.CreateClaim(ctx, "test", "", api.ClaimRequest{Devices: []string{dev2}, Target: "b"}); err != nil {
		t.Error(err)
	}
	// What is over long ago is forgotten.
	r.pass(8 * 24 * time.Hour)
	for range 3 {
		if err := s.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n, k := len(s.Claims("", 0, true).Claims), len(s.Migrations("", 0, true).Migrations); n != 0 || k != 0 {
		t.Errorf("%d claims and %d migrations after a week", n, k)
	}
}

// TestArriving: a device that is made for a claim cannot be claimed itself before
// that is over; and of two claims on a host or device the later has the larger
// fence, which is in the record from the beginning.
func TestArriving(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "small"}), newMachine("b", 4), newMachine("c", 4))
	s := r.start(r.open())
	r.report(s, "a", "b", "c")
	ctx := t.Context()
	m, err := s.CreateMigration(ctx, "test", "", api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: []string{dev1}, Target: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.machines["b"].work(ctx, s.Server); err != nil {
		t.Fatal(err)
	}
	onward := api.ClaimRequest{Devices: []string{"b/" + m.Devices[0].Target}, Target: "c"}
	_, err = s.CreateClaim(ctx, "test", "", onward)
	wantCode(t, err, api.DeviceClaimed)
	if _, err := s.HandOver(ctx, m.ID, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Complete(ctx, m.ID, 0); err != nil {
		t.Fatal(err)
	}
	_, err = s.CreateClaim(ctx, "test", "", onward)
	wantCode(t, err, api.DeviceClaimed)
	for range 2 {
		for _, name := range []string{"a", "b"} {
			if err := r.machines[name].work(ctx, s.Server); err != nil {
				t.Fatal(err)
			}
		}
	}
	first, err := s.Claim(ctx, m.Claim)
	if err != nil || first.State != api.Ended {
		t.Fatalf("%+v, %v", first, err)
	}
	second, err := s.CreateClaim(ctx, "test", "", onward)
	if err != nil || second.Fence <= first.Fence {
		t.Fatalf("%+v after %+v, %v", second, first, err)
	}
	kept, err := s.store.Get(ctx, store.Key(store.Claim, second.ID))
	if err != nil || !strings.Contains(string(kept.Value), fmt.Sprintf(`"fence":%d,`, second.Fence)) {
		t.Errorf("its record is %s, %v", kept.Value, err)
	}
}

// TestTogether: all devices of one owner, or none.
func TestTogether(t *testing.T) {
	r := newRig(t, newMachine("a", 9, &made{id: dev1, typ: "large"}, &made{id: dev2, typ: "small"}), newMachine("b", 2), newMachine("c", 3))
	s := r.start(r.open())
	r.report(s, "a", "b", "c")
	ctx := t.Context()
	_, err := s.CreateClaim(ctx, "test", "", api.ClaimRequest{Devices: []string{dev1, dev2}, Target: "b"})
	wantCode(t, err, api.NoRoom)
	c, err := s.CreateClaim(ctx, "test", "", api.ClaimRequest{Devices: []string{dev1, dev2}}) // the server finds c
	if err != nil || c.Target != "c" || len(c.Devices) != 2 || c.Devices[0].Device == c.Devices[1].Device {
		t.Fatalf("%+v, %v", c, err)
	}
	answer, err := s.Targets(&api.TargetsRequest{Device: dev2})
	if g, _ := group(answer, "c"); err != nil || g != fleet.Full {
		t.Errorf("c: %s, %v", g, err)
	}
	if _, err := s.Release(ctx, c.ID, 0); err != nil {
		t.Fatal(err)
	}
	if again, err := s.Release(ctx, c.ID, 0); err != nil || again.End != api.EndReleased {
		t.Errorf("given back twice: %+v, %v", again, err)
	}
	for _, devices := range [][]string{{}, {dev1, dev1}, {"nobody-such"}} {
		if _, err := s.CreateClaim(ctx, "test", "", api.ClaimRequest{Devices: devices, Target: "c"}); err == nil {
			t.Errorf("%v was claimed for", devices)
		}
	}
}

// TestAccept: an unknown is accepted by name, with who and until when on record.
func TestAccept(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "small"}), newMachine("b", 2))
	s := r.start(r.open())
	r.report(s, "a", "b")
	ctx := t.Context()
	// Another build of the target's driver: nobody knows.
	if err := reportBuild(s, r.machines["b"], "b2"); err != nil {
		t.Fatal(err)
	}
	_, err := s.CreateClaim(ctx, "test", "", api.ClaimRequest{Devices: []string{dev1}, Target: "b"})
	wantCode(t, err, api.NotSettled)
	if err == nil || !strings.Contains(err.Error(), "build.unproven") {
		t.Fatalf("no reason is given: %v", err)
	}
	_, err = s.CreateClaim(ctx, "test", "", api.ClaimRequest{Devices: []string{dev1}, Target: "b", Accept: []api.Acceptance{{Code: "build.unproven"}}})
	wantCode(t, err, api.BadRequest) // no reason
	c, err := s.CreateClaim(ctx, "me", "", api.ClaimRequest{Devices: []string{dev1}, Target: "b", Accept: []api.Acceptance{{Code: "build.unproven", Reason: "tried by hand", By: "somebody else"}}})
	if err != nil || c.Accepted[0].By != "me" || !c.Accepted[0].Until.IsZero() || c.Devices[0].Code != "build.unproven" {
		t.Fatalf("%+v, %v", c, err)
	}
	if c, err = s.Renew(ctx, c.ID, 0, time.Hour); err != nil || !c.Deadline.Equal(r.now.Add(time.Hour)) {
		t.Errorf("renewed: %+v, %v", c, err)
	}
	s.Release(ctx, c.ID, 0)
	soon := r.now.Add(time.Minute)
	c, err = s.CreateClaim(ctx, "me", "", api.ClaimRequest{Devices: []string{dev1}, Target: "b", Accept: []api.Acceptance{{Code: "build.unproven", Reason: "tried by hand", Until: soon}}})
	if err != nil || !c.Deadline.Equal(soon) {
		t.Fatalf("accepted for a minute: %+v, %v", c, err)
	}
	if c, err = s.Renew(ctx, c.ID, 0, time.Hour); err != nil || !c.Deadline.Equal(soon) {
		t.Errorf("renewed beyond what was accepted: %+v, %v", c, err)
	}
}

// TestProofs: a proof counts once a trusted key signed it, for every answer from
// then on, at every server.
func TestProofs(t *testing.T) {
	key, err := proofs.NewPrivateKey("lab", crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "small"}), newMachine("b", 2))
	r.keys = []proofs.NamedKey{key.Public()}
	s, other := r.start(r.open()), r.start(r.open())
	r.report(s, "a")
	if err := reportBuild(s, r.machines["b"], "b2"); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	where := func(s *running) fleet.Group {
		answer, err := s.Targets(&api.TargetsRequest{Device: dev1})
		if err != nil {
			t.Fatal(err)
		}
		g, _ := group(answer, "b")
		return g
	}
	if g := where(s); g != fleet.Unsettled {
		t.Fatalf("b: %s", g)
	}
	c, err := s.CreateClaim(ctx, "test", "", api.ClaimRequest{Devices: []string{dev1}, Target: "b", Accept: []api.Acceptance{{Code: "build.unproven", Reason: "for the proof"}}})
	if err != nil {
		t.Fatal(err)
	}
	p := *c.Devices[0].Proof
	p.Grade, p.Result, p.Controls, p.Tries, p.Verified, p.Time = compat.WorkingState, compat.Accepted, true, 1, true, t0
	f := &proofs.File{Proofs: []compat.Proof{p}}
	wantCode(t, s.AddProofs(ctx, f), api.Forbidden)
	if err := f.Sign(key); err != nil {
		t.Fatal(err)
	}
	if err := s.AddProofs(ctx, f); err != nil {
		t.Fatal(err)
	}
	other.view.wait(ctx, s.view.current(), time.Minute)
	if g, o := where(s), where(other); g != fleet.Ready || o != fleet.Ready {
		t.Errorf("proved, b: %s, and at another server %s", g, o)
	}
}

// TestObserving: a host whose agent observes can be claimed, for those who make
// devices themselves, and takes part in no migration.
func TestObserving(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "small"}), newMachine("b", 2))
	s := r.start(r.open())
	r.machines["b"].mode = api.Observe
	r.report(s, "a", "b")
	_, err := s.CreateMigration(t.Context(), "test", "", api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: []string{dev1}, Target: "b"}})
	wantCode(t, err, api.HostObserves)
	c, err := s.CreateClaim(t.Context(), "test", "", api.ClaimRequest{Devices: []string{dev1}, Target: "b"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.CreateMigration(t.Context(), "test", "", api.MigrationRequest{Claim: c.ID})
	wantCode(t, err, api.HostObserves)
	// The device that its user made for the claim is counted once.
	m := r.machines["b"]
	m.devices = append(m.devices, &made{id: c.Devices[0].Device, typ: "small"})
	r.report(s, "b")
	answer, err := s.Targets(&api.TargetsRequest{Device: dev1})
	if g, room := group(answer, "b"); err != nil || g != fleet.Ready || room != 1 {
		t.Errorf("b: %s, room %d, %v", g, room, err)
	}
}

// TestPages: a list is read in pages, each name once.
func TestPages(t *testing.T) {
	var machines []*machine
	for i := range 25 {
		machines = append(machines, newMachine(fmt.Sprintf("h%02d", i), 1))
	}
	r := newRig(t, machines...)
	s := r.start(r.open())
	for _, m := range machines {
		r.report(s, m.name)
	}
	var names []string
	for after, n := "", 0; n < 10; n++ {
		page := s.Hosts(after, 10)
		for _, h := range page.Hosts {
			names = append(names, h.Name)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if len(names) != 25 || !slices.IsSorted(names) || len(slices.Compact(names)) != 25 {
		t.Errorf("%v", names)
	}
}
