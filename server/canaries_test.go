// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kindred/api"
	"kindred/compat"
	"kindred/fleet"
	"kindred/inventory"
	"kindred/trust"
)

// begun is what a test's agent knows of an end while it lives.
type begun struct {
	step   int64
	device string
}

// by is the certificate of a machine's agent.
func (m *machine) by() trust.Identity {
	return trust.Identity{Role: trust.Host, Name: m.name, Serial: "serial-" + m.name, Issued: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// dies is the end of the machine's agent. What it had made stays.
func (m *machine) dies() { m.ends = nil }

// sweeps is what an agent does when it starts, and when an order ends: canaries
// go that nobody looks after.
func (m *machine) sweeps() {
	m.devices = slices.DeleteFunc(m.devices, func(d *made) bool {
		return d.canary != "" && !slices.ContainsFunc([]api.CanaryRole{api.CanarySource, api.CanaryTarget}, func(r api.CanaryRole) bool {
			return m.ends[d.canary+string(r)].device == d.id
		})
	})
}

// proves does the next thing for each of the machine's canary orders, as an
// agent does, and reports whether there was any. What the server refuses is told
// another time.
func (m *machine) proves(ctx context.Context, s *Server) (more bool, wrong error) {
	if m.ends == nil {
		m.ends = make(map[string]begun)
		m.sweeps()
	}
	list, _ := s.Assignments(m.name)
	for _, o := range list.Canaries {
		key := o.Canary + string(o.Role)
		w := &api.CanaryWord{Canary: o.Canary, Step: o.Step, Role: o.Role}
		mine, ok := m.ends[key]
		if ok && mine.step != o.Step {
			delete(m.ends, key)
			m.sweeps()
			ok = false
		}
		switch {
		case o.End:
			m.sweeps()
			w.Phase = api.CanaryClear
		case o.Phase != "" && !ok:
			w.Phase = api.CanaryLost
		case o.Phase == "" && (o.Role == api.CanarySource || o.Peer != nil):
			w.Phase = api.CanaryWorking
		case o.Role == api.CanarySource:
			w.Phase = map[api.CanaryPhase]api.CanaryPhase{api.CanaryWorking: api.CanaryRecorded}[o.Phase]
			if o.Phase == api.CanaryRecorded && o.Peer != nil && o.Address != "" {
				w.Phase, w.Digest = api.CanarySent, o.Token
				w.Inventory = m.extract(mine.device, &o)
			}
		default:
			w.Phase = map[api.CanaryPhase]api.CanaryPhase{api.CanaryWorking: api.CanaryListening, api.CanaryListening: api.CanaryReceived, api.CanaryReceived: api.CanaryDone}[o.Phase]
			if w.Phase == api.CanaryListening {
				w.Address = "192.0.2.1:1"
			}
			if w.Phase == api.CanaryDone {
				w.Digest = o.Token
				w.Inventory = m.extract("", &o)
				w.Outcome = &api.CanaryOutcome{Result: compat.Accepted, Grade: compat.WorkingState, Controls: true, Tries: o.Tries, Verified: true}
			}
		}
		if w.Phase == "" {
			continue
		}
		err := s.CanaryWord(ctx, m.name, m.by(), w)
		if errors.Is(err, &api.Problem{Code: api.WrongState}) || err == nil {
			more = true
		}
		if err == nil && w.Phase == api.CanaryWorking {
			if m.left() < sizes[o.Type.Name] {
				wrong = errors.Join(wrong, fmt.Errorf("%s: there is no room for the canary of order %s, which held some", m.name, o.Canary))
				continue
			}
			d := &made{id: fmt.Sprintf("canary-%s-%s-%d", o.Canary, o.Role, o.Step), typ: o.Type.Name, canary: o.Canary}
			m.devices = append(m.devices, d)
			m.ends[key] = begun{o.Step, d.id}
		}
		if err == nil && w.Phase == api.CanaryClear {
			if slices.ContainsFunc(m.devices, func(d *made) bool { return d.canary == o.Canary && m.ends[o.Canary+string(o.Role)].device == d.id }) {
				wrong = errors.Join(wrong, fmt.Errorf("%s: said to be clear of %s, and is not", m.name, o.Canary))
			}
			delete(m.ends, key)
		}
	}
	return more, wrong
}

// extract is what the agent tells of its host.
func (m *machine) extract(device string, o *api.CanaryOrder) *inventory.Inventory {
	inv := m.inventory()
	if m.build != "" {
		inv.Modules[0].BuildID = inventory.Of(m.build)
	}
	var part *inventory.Inventory
	var err error
	if device != "" {
		part, err = inv.Extract(device)
	} else {
		part, err = inv.ExtractType(o.Parent, o.Type)
	}
	if err != nil {
		panic(err)
	}
	return part
}

func wants(from, to string) api.CanaryRequest {
	return api.CanaryRequest{From: api.CanarySpot{Host: from}, To: api.CanarySpot{Host: to}, Type: "ns-small"}
}

// prove lets machines work until an order is over and clear.
func (r *rig) prove(s *running, id string) *api.Canary {
	r.t.Helper()
	for range 100 {
		for _, m := range []*machine{r.machines["a"], r.machines["b"]} {
			if _, err := m.proves(r.t.Context(), s.Server); err != nil {
				r.t.Fatal(err)
			}
			r.report(s, m.name)
		}
		c, err := s.Canary(r.t.Context(), id)
		if err != nil {
			r.t.Fatal(err)
		}
		if c.State.Over() && c.From.Clear && c.To.Clear {
			return c
		}
	}
	r.t.Fatalf("order %s does not end", id)
	return nil
}

// TestCanaryOrder: what both agents say becomes a proof, which counts at once;
// who may know the token does, and nobody else.
func TestCanaryOrder(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "small"}), newMachine("b", 4))
	s := r.start(r.open())
	r.report(s, "a")
	if err := reportBuild(s, r.machines["b"], "b2"); err != nil {
		t.Fatal(err)
	}
	r.machines["b"].build = "b2"
	where := func() fleet.Group {
		answer, err := s.Targets(&api.TargetsRequest{Device: dev1})
		if err != nil {
			t.Fatal(err)
		}
		g, _ := group(answer, "b")
		return g
	}
	if g := where(); g != fleet.Unsettled {
		t.Fatalf("before: %s", g)
	}
	c, err := s.CreateCanary(t.Context(), "test", "key", wants("a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.CreateCanary(t.Context(), "test", "key", wants("a", "b"))
	if err != nil || again.ID != c.ID {
		t.Errorf("the same request again: %+v, %v", again, err)
	}
	_, err = s.CreateCanary(t.Context(), "test", "key", wants("b", "a"))
	wantCode(t, err, api.KeyReused)
	a, _ := s.Assignments("a")
	b, _ := s.Assignments("b")
	if len(a.Canaries) != 1 || len(b.Canaries) != 1 || a.Canaries[0].Token == "" || b.Canaries[0].Token != a.Canaries[0].Token || b.Canaries[0].Peer != nil {
		t.Fatalf("%+v and %+v", a, b)
	}
	if text := string(encode(c)); strings.Contains(text, a.Canaries[0].Token) {
		t.Errorf("the token is told to everybody: %s", text)
	}
	for _, w := range []*api.CanaryWord{
		{Canary: c.ID, Step: c.Step, Role: api.CanaryTarget, Phase: api.CanaryWorking},
		{Canary: c.ID, Step: c.Step, Role: "both", Phase: api.CanaryWorking},
	} {
		wantCode(t, s.CanaryWord(t.Context(), "a", r.machines["a"].by(), w), api.Forbidden)
	}
	wantCode(t, s.CanaryWord(t.Context(), "a", r.machines["a"].by(), &api.CanaryWord{Canary: c.ID, Step: c.Step + 1, Role: api.CanarySource, Phase: api.CanaryWorking}), api.WrongState)
	wantCode(t, s.CanaryWord(t.Context(), "a", r.machines["a"].by(), &api.CanaryWord{Canary: c.ID, Step: c.Step, Role: api.CanarySource, Phase: api.CanaryDone}), api.BadRequest)
	wantCode(t, s.CanaryWord(t.Context(), "a", r.machines["a"].by(), &api.CanaryWord{Canary: "none", Step: 1, Role: api.CanarySource, Phase: api.CanaryWorking}), api.WrongState)
	got := r.proveWith(s, c.ID, func(o *api.CanaryOrder) {
		if o.Role == api.CanaryTarget && o.Peer != nil && (o.Peer.Host != "a" || o.Peer.Serial != "serial-a" || o.Peer.Type.Name != "small") {
			t.Errorf("the target expects %+v", o.Peer)
		}
	})
	if got.State != api.CanarySettled || got.Result != compat.Accepted || got.Grade != "working-state" || got.Proof == "" {
		t.Fatalf("%+v", got)
	}
	list := s.Proofs("", 0, api.ProofFilter{})
	if len(list.Proofs) != 1 || list.Proofs[0].ID != got.Proof || list.Proofs[0].Origin != api.Ordered || list.Proofs[0].Proof.Source.Host != "a" {
		t.Errorf("%+v", list)
	}
	if g := where(); g != fleet.Ready {
		t.Errorf("proved: %s", g)
	}
	if all := s.Canaries("", 0, true); len(all.Canaries) != 1 || len(s.Canaries("", 0, false).Canaries) != 0 {
		t.Errorf("%+v", all)
	}
	r.pass(8 * 24 * time.Hour)
	r.report(s, "a", "b")
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all := s.Canaries("", 0, true); len(all.Canaries) != 0 {
		t.Errorf("after a week: %+v", all)
	}
}

// proveWith is prove, with a look at each order.
func (r *rig) proveWith(s *running, id string, look func(*api.CanaryOrder)) *api.Canary {
	for range 20 {
		for _, name := range []string{"a", "b"} {
			list, _ := s.Assignments(name)
			for i := range list.Canaries {
				look(&list.Canaries[i])
			}
			if _, err := r.machines[name].proves(r.t.Context(), s.Server); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	return r.prove(s, id)
}

// TestCanaryDoubt: what does not fit together is no proof.
func TestCanaryDoubt(t *testing.T) {
	for _, c := range []struct {
		name   string
		do     func(r *rig, s *running, id string)
		state  api.CanaryState
		code   api.Code
		result compat.Result
		reason string
	}{
		{"another build meanwhile", func(r *rig, _ *running, _ string) { r.machines["b"].build = "b9" }, api.CanarySettled, "", compat.Inconclusive, "b: the driver is another build now than when this was ordered"},
		{"the source's build", func(r *rig, _ *running, _ string) { r.machines["a"].build = "b9" }, api.CanarySettled, "", compat.Inconclusive, "a: the driver is another build now than when this was ordered"},
		{"another host", func(r *rig, s *running, id string) {
			r.says(s, id, api.CanarySource, func(w *api.CanaryWord) { w.Inventory.Host.Name = "c" })
		}, api.CanarySettled, "", compat.Inconclusive, "a: what its agent says of the host makes no sense"},
		{"another stream", func(r *rig, s *running, id string) {
			r.says(s, id, api.CanarySource, func(w *api.CanaryWord) { w.Digest = "other" })
		}, api.CanaryFailed, api.BadRequest, "", "the target did not try what the source sent"},
		{"no outcome", func(r *rig, s *running, id string) {
			r.says(s, id, api.CanaryTarget, func(w *api.CanaryWord) { w.Outcome = nil })
		}, api.CanaryFailed, api.BadRequest, "", "b: what its agent says of the outcome makes no sense"},
		{"an agent without a certificate", func(r *rig, s *running, id string) {
			if err := s.CanaryWord(r.t.Context(), "a", trust.Identity{}, &api.CanaryWord{Canary: id, Step: 1, Role: api.CanarySource, Phase: api.CanaryWorking}); err != nil {
				r.t.Fatal(err)
			}
		}, api.CanaryFailed, api.Unauthorized, "", "has no certificate"},
		{"lost each time", func(r *rig, s *running, id string) {
			for range mostBegun {
				if _, err := r.machines["a"].proves(r.t.Context(), s.Server); err != nil {
					r.t.Fatal(err)
				}
				r.machines["a"].dies()
				if _, err := r.machines["a"].proves(r.t.Context(), s.Server); err != nil {
					r.t.Fatal(err)
				}
			}
		}, api.CanaryFailed, api.CanaryCutShort, "", "a lost it"},
		{"too late", func(r *rig, s *running, _ string) {
			r.pass(11 * time.Minute)
			r.report(s, "a", "b")
			r.sweep(s)
		}, api.CanaryFailed, api.DeadlinePassed, "", "it was not done until"},
		{"a host is silent", func(r *rig, s *running, _ string) {
			r.pass(time.Minute)
			r.report(s, "a")
			r.sweep(s)
			r.report(s, "b")
		}, api.CanaryFailed, api.HostSilent, "", "b does not report any more"},
		{"revoked", func(r *rig, s *running, id string) {
			r.phase(s, id, api.CanaryRecorded)
			s.view.mu.Lock()
			s.view.revoked["host:a"] = trust.Revocation{At: r.clock()}
			s.view.mu.Unlock()
			r.sweep(s)
		}, api.CanaryFailed, api.Unauthorized, "", "a: the certificate of its agent was revoked"},
		{"cancelled", func(r *rig, s *running, id string) {
			r.phase(s, id, api.CanaryRecorded)
			if _, err := s.CancelCanary(r.t.Context(), id, 0, "somebody"); err != nil {
				r.t.Fatal(err)
			}
		}, api.CanaryCancelled, "", "", "cancelled by somebody"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, newMachine("a", 4), newMachine("b", 4))
			s := r.start(r.open())
			r.report(s, "a", "b")
			o, err := s.CreateCanary(t.Context(), "test", "", wants("a", "b"))
			if err != nil {
				t.Fatal(err)
			}
			c.do(r, s, o.ID)
			got := r.prove(s, o.ID)
			if got.State != c.state || got.Code != c.code || got.Result != c.result || got.Proof != "" || !strings.Contains(got.Reason+got.Detail, c.reason) {
				t.Errorf("%+v", got)
			}
			if list := s.Proofs("", 0, api.ProofFilter{}); len(list.Proofs) != 0 {
				t.Errorf("proofs: %+v", list)
			}
			if len(r.machines["a"].devices)+len(r.machines["b"].devices) != 0 {
				t.Error("devices are left")
			}
		})
	}
}

func (r *rig) sweep(s *running) {
	r.t.Helper()
	if err := s.Sweep(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// phase works until the source is so far.
func (r *rig) phase(s *running, id string, phase api.CanaryPhase) {
	r.t.Helper()
	for range 20 {
		c, err := s.Canary(r.t.Context(), id)
		if err != nil {
			r.t.Fatal(err)
		}
		if c.From.Phase == phase {
			return
		}
		if _, err := r.machines["a"].proves(r.t.Context(), s.Server); err != nil {
			r.t.Fatal(err)
		}
	}
	r.t.Fatalf("the source does not come to %s", phase)
}

// says works until one end has its last word, and has it say another.
func (r *rig) says(s *running, id string, role api.CanaryRole, change func(*api.CanaryWord)) {
	r.t.Helper()
	for range 20 {
		for _, name := range []string{"a", "b"} {
			list, _ := s.Assignments(name)
			for _, o := range list.Canaries {
				last := o.Role == api.CanarySource && o.Phase == api.CanaryRecorded && o.Peer != nil || o.Role == api.CanaryTarget && o.Phase == api.CanaryReceived
				if o.Role != role || !last {
					continue
				}
				m := r.machines[name]
				w := &api.CanaryWord{Canary: id, Step: o.Step, Role: role, Phase: api.CanarySent, Digest: o.Token}
				if role == api.CanaryTarget {
					w.Phase, w.Inventory = api.CanaryDone, m.extract("", &o)
					w.Outcome = &api.CanaryOutcome{Result: compat.Accepted, Grade: compat.WorkingState, Controls: true, Tries: 2}
				} else {
					w.Inventory = m.extract(m.ends[id+string(role)].device, &o)
				}
				change(w)
				if err := s.CanaryWord(r.t.Context(), name, m.by(), w); err != nil {
					r.t.Fatal(err)
				}
				return
			}
			if _, err := r.machines[name].proves(r.t.Context(), s.Server); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	r.t.Fatalf("the %s has no last word", role)
}

// TestCanaryRoom: orders and claims hold room against each other, and a canary
// that is there is counted once.
func TestCanaryRoom(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "small"}), newMachine("b", 1))
	s := r.start(r.open())
	r.report(s, "a", "b")
	claim := func() (*api.Claim, error) {
		return s.CreateClaim(t.Context(), "test", "", api.ClaimRequest{Devices: []string{dev1}, Target: "b"})
	}
	room := func() int {
		answer, err := s.Targets(&api.TargetsRequest{Device: dev1, Others: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range answer.Hosts {
			if h.Host == "b" && h.Room.Count != nil {
				return *h.Room.Count
			}
		}
		return -1
	}
	o, err := s.CreateCanary(t.Context(), "test", "", wants("a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	if n := room(); n != 0 {
		t.Errorf("room beside the order: %d", n)
	}
	_, err = claim()
	wantCode(t, err, api.NoRoom)
	_, err = s.CreateCanary(t.Context(), "test", "", wants("a", "b"))
	wantCode(t, err, api.NoRoom)
	if got := r.prove(s, o.ID); got.State != api.CanarySettled {
		t.Fatalf("%+v", got)
	}
	if n := room(); n != 1 {
		t.Errorf("room after the order: %d", n)
	}
	c, err := claim()
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.CreateCanary(t.Context(), "test", "", wants("a", "b"))
	wantCode(t, err, api.NoRoom)
	if _, err := s.Release(t.Context(), c.ID, 0); err != nil {
		t.Fatal(err)
	}

	// With two places, one order leaves one: before its canary is there, and after.
	r.machines["b"].units = 2
	r.report(s, "b")
	if o, err = s.CreateCanary(t.Context(), "test", "", wants("a", "b")); err != nil {
		t.Fatal(err)
	}
	seen := make(map[bool]bool)
	for range 12 {
		for _, name := range []string{"a", "b"} {
			if _, err := r.machines[name].proves(t.Context(), s.Server); err != nil {
				t.Fatal(err)
			}
			r.report(s, name)
		}
		now, err := s.Canary(t.Context(), o.ID)
		if err != nil {
			t.Fatal(err)
		}
		if !now.To.Clear {
			seen[len(r.machines["b"].devices) > 0] = true
			if n := room(); n != 1 {
				t.Errorf("with %d canaries there, room is %d", len(r.machines["b"].devices), n)
			}
		}
	}
	if !seen[true] || !seen[false] {
		t.Errorf("the canary was seen there and not: %v", seen)
	}
}

// TestCanaryContention: orders and claims are asked for all at once, at two
// servers: never more of them are granted than there is room, and no room is
// left while one is refused for it.
func TestCanaryContention(t *testing.T) {
	var devices []*made
	for i := range 8 {
		devices = append(devices, &made{id: fmt.Sprintf("83b8f4f2-509f-382f-3c1e-e6bfe0fa60%02d", i), typ: "small"})
	}
	const room = 5
	r := newRig(t, newMachine("a", 20, devices...), newMachine("b", room))
	servers := []*running{r.start(r.open()), r.start(r.open())}
	r.report(servers[0], "a", "b")
	for _, s := range servers {
		s.view.wait(t.Context(), servers[0].view.current(), time.Minute)
	}
	var all sync.WaitGroup
	var granted, full atomic.Int32
	asked := func(err error) {
		switch {
		case err == nil:
			granted.Add(1)
		case errors.Is(err, &api.Problem{Code: api.NoRoom}):
			full.Add(1)
		default:
			t.Error(err)
		}
	}
	for i, d := range devices {
		all.Go(func() {
			_, err := servers[i%2].CreateClaim(t.Context(), "test", "", api.ClaimRequest{Devices: []string{d.id}, Target: "b"})
			asked(err)
		})
		all.Go(func() {
			_, err := servers[(i+1)%2].CreateCanary(t.Context(), "test", "", wants("a", "b"))
			asked(err)
		})
	}
	all.Wait()
	if granted.Load() != room || full.Load() != int32(2*len(devices)-room) {
		t.Errorf("%d granted and %d refused, with room for %d", granted.Load(), full.Load(), room)
	}
}

// TestCanaryCrash: whichever transaction a server stops before or after, another
// one carries on, and the order comes to the same, with one proof.
func TestCanaryCrash(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 0; ; at++ {
			r := newRig(t, newMachine("a", 2), newMachine("b", 2))
			kept := r.open()
			c := &crashing{Store: kept, left: -1, after: after}
			s := r.start(c)
			r.report(s, "a", "b")
			c.mu.Lock()
			c.left = at
			c.mu.Unlock()
			order := func(s *Server) *api.Canary {
				o, err := s.CreateCanary(t.Context(), "test", "key", wants("a", "b"))
				if err != nil {
					return nil
				}
				return o
			}
			o := order(s.Server)
			for n := 0; n < 30 && !c.stopped(); n++ {
				for _, name := range []string{"a", "b"} {
					if _, err := r.machines[name].proves(t.Context(), s.Server); err != nil {
						t.Fatal(err)
					}
				}
			}
			if !c.stopped() {
				if at == 0 {
					t.Fatal("no transaction was counted")
				}
				break // there are no more
			}
			s.stop()
			s = r.start(kept)
			r.report(s, "a", "b")
			if o == nil {
				if o = order(s.Server); o == nil {
					t.Fatal("it cannot be ordered")
				}
			}
			got := r.prove(s, o.ID)
			if list := s.Proofs("", 0, api.ProofFilter{}); got.State != api.CanarySettled || got.Result != compat.Accepted || len(list.Proofs) != 1 {
				t.Errorf("stopped at %d, after %v: %+v, %d proofs", at, after, got, len(list.Proofs))
			}
			if len(r.machines["a"].devices)+len(r.machines["b"].devices) != 0 {
				t.Errorf("stopped at %d: devices are left", at)
			}
			s.stop()
		}
	}
}

// TestCanaryWalk: orders, claims, cancellations, agents that die and time that
// passes, in any order: an agent that begins has its room, a claim that is held
// has its, and in the end nothing is left and all room is free.
func TestCanaryWalk(t *testing.T) {
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := newRig(t, newMachine("a", 3, &made{id: dev1, typ: "small"}), newMachine("b", 3, &made{id: dev2, typ: "small"}))
		s := r.start(r.open())
		r.report(s, "a", "b")
		var orders, claims []string
		name := func() string { return []string{"a", "b"}[rnd.IntN(2)] }
		other := map[string]string{"a": "b", "b": "a"}
		device := map[string]string{"a": dev1, "b": dev2}
		for range 150 {
			switch at := name(); rnd.IntN(12) {
			case 0, 1:
				to := other[at]
				if rnd.IntN(4) == 0 {
					to = at
				}
				if o, err := s.CreateCanary(t.Context(), "test", "", wants(at, to)); err == nil {
					orders = append(orders, o.ID)
				} else if !errors.Is(err, &api.Problem{Code: api.NoRoom}) && !errors.Is(err, &api.Problem{Code: api.HostSilent}) {
					t.Fatal(err)
				}
			case 2:
				if c, err := s.CreateClaim(t.Context(), "test", "", api.ClaimRequest{Devices: []string{at + "/" + device[at]}, Target: other[at]}); err == nil {
					claims = append(claims, c.ID)
					if n := r.machines[other[at]].left() - r.promised(s, other[at]); n < 0 {
						t.Fatalf("seed %d: %s has promised %d more than it has", seed, other[at], -n)
					}
				}
			case 3:
				if len(claims) > 0 {
					if _, err := s.Release(t.Context(), claims[0], 0); err != nil {
						t.Fatal(err)
					}
					claims = claims[1:]
				}
			case 4:
				if len(orders) > 0 && rnd.IntN(3) == 0 {
					if _, err := s.CancelCanary(t.Context(), orders[rnd.IntN(len(orders))], 0, "test"); err != nil {
						t.Fatal(err)
					}
				}
			case 5:
				if rnd.IntN(2) == 0 {
					r.machines[at].dies()
				}
			case 6:
				r.report(s, at)
			case 7:
				r.pass(time.Duration(rnd.IntN(30)) * time.Second)
				r.report(s, "a", "b")
				r.sweep(s)
			default:
				if _, err := r.machines[at].proves(t.Context(), s.Server); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
		}
		for _, id := range orders {
			if _, err := s.CancelCanary(t.Context(), id, 0, "test"); err != nil {
				t.Fatal(err)
			}
			got := r.prove(s, id)
			if got.Begun > mostBegun || (got.State == api.CanarySettled) != (got.Result != "") {
				t.Errorf("seed %d: %+v", seed, got)
			}
		}
		for _, id := range claims {
			if _, err := s.Release(t.Context(), id, 0); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range r.machines {
			if len(m.devices) != 1 || r.promised(s, m.name) != 0 {
				t.Errorf("seed %d: %s has %d devices, and holds room for %d", seed, m.name, len(m.devices), r.promised(s, m.name))
			}
		}
	}
}

// promised is how much of a machine's units is held and not made yet.
func (r *rig) promised(s *running, name string) int {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	n := 0
	for _, c := range s.view.openOn(name) {
		n += len(c.Devices)
	}
	for _, c := range s.view.canariesOn(name) {
		n += len(c.holds(name))
		for _, d := range r.machines[name].devices {
			if d.canary == c.ID {
				n--
			}
		}
	}
	return n
}
