// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kindred/api"
	"kindred/fleet"
	"kindred/inventory"
	"kindred/server/store"
)

// TestSilence: a host that is not heard is not believed, and is when it comes
// back; the store hears of both, and of nothing in between.
func TestSilence(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "large"}), newMachine("b", 4))
	c := &crashing{Store: r.open(), left: -1}
	s := r.start(c)
	ctx := t.Context()
	r.report(s, "a", "b")
	written := c.done
	for range 5 {
		r.pass(10 * time.Second)
		r.report(s, "a", "b")
		if err := s.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if c.done != written {
		t.Errorf("signs of life were written: %d transactions", c.done-written)
	}
	state := func(host string) (api.HostState, fleet.Group) {
		answer, err := s.Targets(&api.TargetsRequest{Device: dev1})
		if err != nil {
			t.Fatal(err)
		}
		h, err := s.Host(host)
		if err != nil {
			t.Fatal(err)
		}
		g, _ := group(answer, host)
		return h.State, g
	}
	for range 3 {
		r.pass(20 * time.Second)
		r.report(s, "a")
		s.Sweep(ctx)
	}
	if st, g := state("b"); st != api.NotReporting || g != fleet.NotReporting {
		t.Errorf("b is %s, %s", st, g)
	}
	if st, _ := state("a"); st != api.Reporting {
		t.Errorf("a is %s", st)
	}
	_, err := s.CreateClaim(ctx, "test", "", api.ClaimRequest{Devices: []string{dev1}, Target: "b"})
	wantCode(t, err, api.HostSilent)
	_, err = s.CreateClaim(ctx, "test", "", api.ClaimRequest{Devices: []string{dev1}})
	wantCode(t, err, api.NoTarget)
	if !strings.Contains(err.Error(), "1 host: host-silent") {
		t.Errorf("it does not say why: %v", err)
	}
	r.report(s, "b")
	if st, g := state("b"); st != api.Reporting || g != fleet.Ready {
		t.Errorf("b came back: %s, %s", st, g)
	}
	// One that is no more is forgotten, when nothing depends on it.
	wantCode(t, s.Forget(ctx, "b"), api.HostNeeded)
	claim, err := s.CreateClaim(ctx, "test", "", api.ClaimRequest{Devices: []string{dev1}, Target: "b"})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r.pass(20 * time.Second)
		r.report(s, "a")
		s.Sweep(ctx)
	}
	wantCode(t, s.Forget(ctx, "b"), api.HostNeeded)
	if _, err := s.Release(ctx, claim.ID, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Forget(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, s.Forget(ctx, "b"), api.NotFound)
	if answer, err := s.Targets(&api.TargetsRequest{Device: dev1}); err != nil || len(answer.Hosts) != 0 || len(s.Hosts("", 0).Hosts) != 1 {
		t.Errorf("b is still there: %+v, %v", answer, err)
	}
	r.report(s, "b")
	if _, g := state("b"); g != fleet.Ready {
		t.Errorf("b came back: %s", g)
	}
}

// TestTakeover: when a server goes, its hosts have the time to come to another
// one; those that do are never taken for silent.
func TestTakeover(t *testing.T) {
	r := newRig(t, newMachine("a", 4), newMachine("b", 4))
	kept := r.open()
	one, two := r.start(kept), r.start(r.open())
	r.report(one, "a", "b")
	one.stop()
	// Its announcement goes with its lease, which ends with the server.
	gone := func() bool {
		two.view.mu.RLock()
		defer two.view.mu.RUnlock()
		return two.view.hosts["b"] != nil && !two.view.replicas[one.replica]
	}
	for !gone() {
		two.view.wait(t.Context(), two.view.current()+1, 100*time.Millisecond)
	}
	state := func(host string) api.HostState {
		h, err := two.Host(host)
		if err != nil {
			t.Fatal(err)
		}
		return h.State
	}
	two.Sweep(t.Context())
	r.pass(30 * time.Second)
	two.Sweep(t.Context())
	if state("a") != api.Reporting || state("b") != api.Reporting {
		t.Errorf("a is %s, b %s: they had no time", state("a"), state("b"))
	}
	r.report(two, "a")
	r.pass(10 * time.Second)
	two.Sweep(t.Context())
	if state("a") != api.Reporting || state("b") != api.NotReporting {
		t.Errorf("a is %s, b %s", state("a"), state("b"))
	}
}

// TestUnusedStatics: what hosts have in common is forgotten an hour after the last
// of them left it, and is there for one that comes to it again.
func TestUnusedStatics(t *testing.T) {
	m := newMachine("a", 4)
	r := newRig(t, m)
	s, other := r.start(r.open()), r.start(r.open())
	r.report(s, "a")
	refers := func() string {
		s.view.mu.RLock()
		defer s.view.mu.RUnlock()
		return s.view.hosts["a"].Static
	}
	build := func(name string) string {
		t.Helper()
		if err := reportBuild(s, m, name); err != nil {
			t.Fatal(err)
		}
		other.view.wait(t.Context(), s.view.current(), time.Minute)
		return refers()
	}
	first, second := refers(), build("b2")
	kept := func() (list []string) {
		t.Helper()
		for range 3 {
			for _, one := range []*running{s, other} {
				if err := one.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			r.pass(2 * unusedLook)
		}
		if _, err := s.store.Read(t.Context(), store.Static+"/", func(r store.Record) error {
			list = append(list, strings.TrimPrefix(r.Key, store.Static+"/"))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := kept(); len(got) != 2 {
		t.Errorf("at once %q are kept", got)
	}
	r.pass(unusedFor - 4*unusedLook)
	if got := build("b1"); got != first {
		t.Fatalf("it has %s, before %s", got, first)
	}
	if got := kept(); !slices.Contains(got, first) {
		t.Errorf("in use again, and %q are kept", got)
	}
	r.pass(unusedFor)
	if got := kept(); len(got) != 1 || got[0] != first || first == second {
		t.Errorf("after an hour %q are kept, and %s is in use", got, first)
	}
	if got := build("b2"); got != second {
		t.Errorf("what was forgotten comes again as %s", got)
	}
}

// unsaid is a store that writes, and does not say so.
type unsaid struct {
	Store
	on atomic.Bool
}

func (u *unsaid) Commit(ctx context.Context, t store.Txn) (int64, bool, error) {
	revision, ok, err := u.Store.Commit(ctx, t)
	if err == nil && u.on.Load() {
		err = fmt.Errorf("%w: cut after", store.ErrUncertain)
	}
	return revision, ok, err
}

// TestHeardUnsaid: a host that was heard is not taken for silent because the store
// did not say that it put that down; neither at first, nor when it comes back.
func TestHeardUnsaid(t *testing.T) {
	r := newRig(t, newMachine("a", 4))
	u := &unsaid{Store: r.open()}
	one, two := r.start(u), r.start(r.open())
	static, _ := inventory.Split(r.machines["a"].inventory())
	digest, err := static.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Static(t.Context(), digest, static); err != nil {
		t.Fatal(err)
	}
	live := func() liveRecord {
		one.view.mu.RLock()
		defer one.view.mu.RUnlock()
		if h := one.view.hosts["a"]; h != nil {
			return h.live
		}
		return liveRecord{}
	}
	heard := func() {
		t.Helper()
		u.on.Store(true)
		wantCode(t, r.machines["a"].report(t.Context(), one.Server), api.Unavailable)
		u.on.Store(false)
		for { // until it is seen that it was written
			seen := one.view.current() // before one looks, or what comes between is waited for twice
			if live().Replica == one.replica {
				return
			}
			if !one.view.wait(t.Context(), seen+1, time.Minute) {
				t.Fatal("it was not written")
			}
		}
	}
	state := func() api.HostState {
		one.Sweep(t.Context())
		return live().State
	}
	heard()
	if got := state(); got != api.Reporting {
		t.Errorf("heard for the first time: %s", got)
	}
	r.report(two, "a")
	one.view.wait(t.Context(), two.view.current(), time.Minute)
	r.pass(time.Hour)
	heard()
	if got := state(); got != api.Reporting {
		t.Errorf("heard again after an hour at another server: %s", got)
	}
}

// TestNowhere: what is not there is refused as everything else is, and a stream
// does not wait for a revision that this store never gave.
func TestNowhere(t *testing.T) {
	r := newRig(t, newMachine("a", 4))
	s := r.start(r.open())
	r.report(s, "a")
	w := httptest.NewRecorder()
	ask := httptest.NewRequest(http.MethodGet, "/v1/nothing", nil)
	s.Handler().ServeHTTP(w, ask.WithContext(WithIdentity(t.Context(), Identity{Name: "test", Admin: true})))
	p := new(api.Problem)
	if err := json.Unmarshal(w.Body.Bytes(), p); err != nil || p.Code != api.NotFound || w.Code != http.StatusNotFound || w.Header().Get("Content-Type") != api.ProblemType {
		t.Errorf("%d %v %s: %+v, %v", w.Code, w.Header(), w.Body, p, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	enough := errors.New("enough")
	err := serve(t, s, Identity{Name: "test", Admin: true}).Events(ctx, nil, s.view.current()+1000, func(e *api.Event) error {
		if e.Kind != api.ResetEvent || e.Revision == 0 || e.Revision > s.view.current() {
			return fmt.Errorf("%+v", e)
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Error(err)
	}
}

// TestReport: what is sent has to be whole, and of the host that sends it.
func TestReport(t *testing.T) {
	r := newRig(t, newMachine("a", 4))
	s := r.start(r.open())
	agent := serve(t, s, Identity{Name: "host:a", Host: "a"})
	ctx := t.Context()
	static, own := inventory.Split(r.machines["a"].inventory())
	digest, err := static.Digest()
	if err != nil {
		t.Fatal(err)
	}
	own.Static = digest
	report := &api.Report{Own: own, Version: "1", Agent: "test", Mode: api.Observe}
	_, err = agent.Alive(ctx, "a", &api.Alive{Version: "1"})
	wantCode(t, err, api.NeedReport)
	_, err = agent.Report(ctx, "a", report)
	wantCode(t, err, api.NeedStatic)
	wantCode(t, agent.PutStatic(ctx, "abc", static), api.BadRequest)
	if err := agent.PutStatic(ctx, digest, static); err != nil {
		t.Fatal(err)
	}
	answer, err := agent.Report(ctx, "a", report)
	if err != nil || answer.Interval.Of() != 10*time.Second || answer.Revision == 0 {
		t.Errorf("%+v, %v", answer, err)
	}
	if _, err := agent.Alive(ctx, "a", &api.Alive{Version: "1"}); err != nil {
		t.Error(err)
	}
	_, err = agent.Alive(ctx, "a", &api.Alive{Version: "2"})
	wantCode(t, err, api.NeedReport)
	bad := *own
	bad.Available = nil
	_, err = agent.Report(ctx, "a", &api.Report{Own: &bad, Version: "2", Mode: api.Observe})
	wantCode(t, err, api.BadRequest)
	for _, ask := range []func() error{
		func() error { _, err := agent.Report(ctx, "b", report); return err },
		func() error { _, err := agent.Alive(ctx, "b", &api.Alive{Version: "1"}); return err },
		func() error { return agent.Status(ctx, "b", &api.StatusReport{}) },
		func() error { return agent.Assignments(ctx, "b", func(*api.Assignments) error { return nil }) },
		func() error { _, err := agent.Hosts(ctx); return err },
		func() error { _, err := agent.Targets(ctx, &api.TargetsRequest{Device: dev1}); return err },
		func() error { _, err := agent.CreateClaim(ctx, "", &api.ClaimRequest{}); return err },
		func() error { return agent.Events(ctx, nil, 0, func(*api.Event) error { return nil }) },
	} {
		wantCode(t, ask(), api.Forbidden)
	}
	_, err = agent.Abort(ctx, "m", &api.Abort{}) // of a migration to itself it might be
	wantCode(t, err, api.NotFound)
	nobody := serve(t, s, Identity{})
	_, err = nobody.Health(ctx)
	wantCode(t, err, api.Forbidden)
}

// TestStreams: assignments come whole, at first and at each change; events go
// on after a revision, at another server.
func TestStreams(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "small"}), newMachine("b", 4))
	kept := r.open()
	s, other := r.start(kept), r.start(kept)
	r.report(s, "a", "b")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	enough := errors.New("enough")
	agent := serve(t, s, Identity{Name: "host:b", Host: "b"})
	n := 0
	var id string
	err := agent.Assignments(ctx, "b", func(a *api.Assignments) error {
		switch n++; n {
		case 1:
			if len(a.Assignments) != 0 || a.Revision == 0 {
				return fmt.Errorf("at first: %+v", a)
			}
			m, err := s.CreateMigration(ctx, "test", "", api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: []string{dev1}, Target: "b"}})
			if err != nil {
				return err
			}
			id = m.ID
		case 2:
			if len(a.Assignments) != 1 || a.Assignments[0].Do != api.Make || a.Assignments[0].Fence == 0 || a.Assignments[0].Device == "" {
				return fmt.Errorf("with a claim: %+v", a)
			}
			if _, err := s.Abort(ctx, id, 0, api.Abort{}); err != nil {
				return err
			}
		case 3:
			if len(a.Assignments) != 1 || a.Assignments[0].Do != api.Release {
				return fmt.Errorf("with the abort: %+v", a)
			}
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	admin := serve(t, other, Identity{Name: "test", Admin: true})
	var states []api.MigrationState
	var first int64
	for _, stop := range []int{1, 3} { // two streams, one after the other
		err = admin.Events(ctx, []api.EventKind{api.MigrationEvent}, max(first, 1), func(e *api.Event) error {
			first = e.Revision
			if e.Kind != api.MigrationEvent || e.Name != id || e.Migration == nil {
				return fmt.Errorf("%+v", e)
			}
			if states = append(states, e.Migration.State); len(states) == stop {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) {
			t.Fatal(err, states)
		}
	}
	if got := fmt.Sprint(states); got != "[planned claimed aborting]" {
		t.Error(got)
	}
	devices := 0
	err = admin.Events(ctx, []api.EventKind{api.DeviceEvent, api.HostEvent}, 1, func(e *api.Event) error {
		if e.Kind == api.DeviceEvent && e.Name == "a/"+dev1 && e.Device != nil {
			devices++
		}
		if e.Kind == api.HostEvent && e.Name == "b" {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || devices != 1 {
		t.Errorf("%v, %d devices", err, devices)
	}
}

// TestRestart: what a server knew is in the store, and another one has the same
// answers.
func TestRestart(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "small"}), newMachine("b", 2))
	kept := r.open()
	s := r.start(kept)
	r.report(s, "a", "b")
	c, err := s.CreateClaim(t.Context(), "test", "k", api.ClaimRequest{Devices: []string{dev1}, Target: "b"})
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	s = r.start(kept)
	again, err := s.CreateClaim(t.Context(), "test", "k", api.ClaimRequest{Devices: []string{dev1}, Target: "b"})
	if err != nil || again.ID != c.ID || again.Fence != c.Fence || again.Devices[0].Device != c.Devices[0].Device {
		t.Errorf("%+v, %v; want %+v", again, err, c)
	}
	answer, err := s.Targets(&api.TargetsRequest{Device: dev1})
	if g, room := group(answer, "b"); err != nil || g != fleet.Ready || room != 1 {
		t.Errorf("b: %s, room %d, %v", g, room, err)
	}
	// Records that nobody can read do not keep the others from being read, and one
	// from before they were compressed is read as the others are.
	b, err := kept.Get(t.Context(), store.Key(store.Host, "b"))
	if err != nil {
		t.Fatal(err)
	}
	rec, err := decodeHost(b)
	if err != nil || b.Value[0] == '{' {
		t.Errorf("a record of %d bytes: %v", len(b.Value), err)
	}
	rec.Own.Host = "c"
	for name, value := range map[string][]byte{"broken": []byte("{"), "cut": b.Value[:len(b.Value)/2], "c": encode(rec)} {
		if _, _, err := kept.Commit(t.Context(), store.Txn{Then: []store.Write{{Key: store.Key(store.Host, name), Value: value}}}); err != nil {
			t.Fatal(err)
		}
	}
	s.stop()
	s = r.start(kept)
	if list := s.Hosts("", 0).Hosts; len(list) != 3 || list[2].Name != "c" || list[2].Static != list[1].Static {
		t.Errorf("%+v", list)
	}
}
