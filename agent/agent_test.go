// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kindred/agent"
	"kindred/api"
	"kindred/inventory"
	"kindred/sim"
	"kindred/sim/hosts"
)

// server is one that does as it is told.
type server struct {
	mu       sync.Mutex
	away     error // what everything fails with
	statics  map[string]bool
	reports  []api.Report
	alive    []time.Time
	calls    []time.Time
	versions map[string]string
	list     api.Assignments
	changed  chan struct{}
	statuses []api.StatusReport
	words    []api.CanaryWord
}

func newServer(host string) *server {
	return &server{statics: map[string]bool{}, versions: map[string]string{}, list: api.Assignments{Host: host, Revision: 1}, changed: make(chan struct{})}
}

const interval = 10 * time.Second

func (s *server) called() error {
	s.calls = append(s.calls, time.Now())
	return s.away
}

func (s *server) Report(_ context.Context, host string, r *api.Report) (*api.ReportAnswer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.called(); err != nil {
		return nil, err
	}
	if !s.statics[r.Own.Static] {
		return nil, api.NewProblem(api.NeedStatic, "%s", r.Own.Static)
	}
	s.reports = append(s.reports, *r)
	s.versions[host] = r.Version
	return &api.ReportAnswer{Interval: api.Duration(interval)}, nil
}

func (s *server) Alive(_ context.Context, host string, a *api.Alive) (*api.ReportAnswer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.called(); err != nil {
		return nil, err
	}
	if s.versions[host] != a.Version {
		return nil, api.NewProblem(api.NeedReport, "%s", a.Version)
	}
	s.alive = append(s.alive, time.Now())
	return &api.ReportAnswer{Interval: api.Duration(interval)}, nil
}

func (s *server) PutStatic(_ context.Context, hash string, static *inventory.Inventory) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.called(); err != nil {
		return err
	}
	if digest, err := static.Digest(); err != nil || digest != hash {
		return fmt.Errorf("a static part %s is sent as %s: %w", digest, hash, err)
	}
	s.statics[hash] = true
	return nil
}

func (s *server) Assignments(ctx context.Context, _ string, take func(*api.Assignments) error) error {
	for {
		s.mu.Lock()
		list, changed, away := s.list, s.changed, s.away
		list.Assignments = slices.Clone(list.Assignments)
		s.mu.Unlock()
		if away != nil {
			return away
		}
		if err := take(&list); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (s *server) Status(_ context.Context, _ string, r *api.StatusReport) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.called(); err != nil {
		return err
	}
	s.statuses = append(s.statuses, *r)
	return nil
}

func (s *server) CanaryWord(_ context.Context, _ string, w *api.CanaryWord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.called(); err != nil {
		return err
	}
	s.words = append(s.words, *w)
	return nil
}

// set changes what the server wants, or whether it is there.
func (s *server) set(change func(s *server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
	close(s.changed)
	s.changed = make(chan struct{})
}

// want replaces the assignments.
func (s *server) want(revision int64, list ...api.Assignment) {
	s.set(func(s *server) { s.list.Revision, s.list.Assignments = revision, list })
}

// said is the last word on each assignment of a list.
func (s *server) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.statuses) == 0 {
		return ""
	}
	var text []string
	for _, st := range s.statuses[len(s.statuses)-1].Statuses {
		text = append(text, strings.TrimSuffix(string(st.State)+": "+st.Detail, ": "))
	}
	return strings.Join(text, "\n")
}

func host(t *testing.T, build string) *hosts.Host {
	t.Helper()
	list, err := sim.Fleet(build)
	if err != nil {
		t.Fatal(err)
	}
	h, err := hosts.New(build, list[0], t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if err := h.Allow(hosts.AllowAll); err != nil {
		t.Fatal(err)
	}
	return h
}

// running runs an agent until stop is called.
func running(t *testing.T, h *hosts.Host, fleet agent.Fleet, manage bool) (stop func()) {
	t.Helper()
	a := &agent.Agent{Name: h.Name, Version: "test", Machine: h, Fleet: fleet}
	if manage {
		var err error
		if a.Journal, err = h.Journal(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// later lets the agent be for a while.
func later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func devices(t *testing.T, h *hosts.Host) []inventory.Device {
	t.Helper()
	inv, err := h.Inventory(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return inv.Devices
}

var v4 = inventory.TypeName{Namespace: sim.Namespace, Name: "V4"}

// making is an assignment to make a device.
func making(n int, fence, step int64) api.Assignment {
	return api.Assignment{
		Migration: fmt.Sprintf("m%d", fence), Claim: fmt.Sprintf("c%d", fence), Fence: fence, Step: step, Do: api.Make, Device: sim.UUID("target", n),
		Spec: api.ClaimDevice{
			Source: sim.UUID("source", n), Kind: inventory.Mdev, Parent: "sim0", Type: v4, Device: sim.UUID("target", n),
			Copy:     []api.Attribute{{Name: "weight", Value: "7"}},
			Contract: &inventory.Contract{Type: v4, Host: "elsewhere"},
		},
	}
}

func doing(a api.Assignment, do api.Action, step int64) api.Assignment {
	a.Do, a.Step = do, step
	return a
}

// TestReport: the whole once, then signs of life; what changes at once goes at
// once; nothing is sent because time passes.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := host(t, "gen9"), newServer("gen9")
		if err := create(h, 9); err != nil { // of the first one more is known: that it migrates
			t.Fatal(err)
		}
		stop := running(t, h, s, false)
		defer stop()
		later(10 * time.Minute)
		if len(s.reports) != 1 || len(s.statics) != 1 || s.reports[0].Mode != api.Observe || s.reports[0].Own.Host != "gen9" {
			t.Fatalf("%d reports, %d static parts", len(s.reports), len(s.statics))
		}
		for i, at := range s.alive[1:] {
			if gap := at.Sub(s.alive[i]); gap > interval+time.Second {
				t.Errorf("silent for %v", gap)
			}
		}
		if len(s.alive) < 50 || len(s.alive) > 120 {
			t.Errorf("%d signs of life in ten minutes, wanted each %v", len(s.alive), interval)
		}

		begun := time.Now()
		for n := range 3 {
			if err := create(h, n); err != nil {
				t.Fatal(err)
			}
		}
		later(time.Second)
		if len(s.reports) != 2 || len(s.reports[1].Own.Devices) != 4 || s.calls[len(s.calls)-1].Sub(begun) > time.Second {
			t.Errorf("three devices at once are %d reports more", len(s.reports)-1)
		}
		if len(s.statics) != 1 {
			t.Error("the static part was sent again")
		}

		// A server that forgot everything.
		s.set(func(s *server) { s.versions, s.statics = map[string]string{}, map[string]bool{} })
		later(15 * time.Second)
		if len(s.reports) != 3 || len(s.statics) != 1 {
			t.Errorf("the server forgot, and has %d reports", len(s.reports)-2)
		}
	})
}

// TestServerLost: tries become rare, and what was missed is sent after.
func TestServerLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := host(t, "gen9"), newServer("gen9")
		s.away = errors.New("connection refused")
		stop := running(t, h, s, true)
		defer stop()
		later(time.Hour)
		if n := len(s.calls); n < 100 || n > 400 {
			t.Errorf("%d calls in an hour to a server that is away", n)
		}
		if err := create(h, 1); err != nil {
			t.Fatal(err)
		}
		s.set(func(s *server) { s.away = nil })
		s.want(5, making(1, 4, 5))
		later(time.Minute)
		if len(s.reports) == 0 || s.said() != "made" || len(devices(t, h)) != 2 {
			t.Errorf("back again: %d reports, %q, %d devices", len(s.reports), s.said(), len(devices(t, h)))
		}
		if last := s.reports[len(s.reports)-1]; len(last.Own.Devices) != 2 || last.Mode != api.Manage {
			t.Errorf("the last report has %d devices", len(last.Own.Devices))
		}
	})
}

func create(h *hosts.Host, n int) error {
	_, err := h.Start(context.Background(), startRequest(n))
	return err
}

// TestAssignments: make, keep and release, each level-triggered.
func TestAssignments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := host(t, "gen9"), newServer("gen9")
		stop := running(t, h, s, true)
		defer func() { stop() }()
		a, b := making(1, 10, 11), making(2, 10, 11)
		s.want(11, a, b)
		later(time.Second)
		list := devices(t, h)
		if s.said() != "made\nmade" || len(list) != 2 || list[0].Type != v4 || !list[0].Ours || list[0].Attributes.Values["weight"] != inventory.Of("7") {
			t.Fatalf("%q: %+v", s.said(), list)
		}
		if c := list[0].Contract; c == nil || c.Host != "elsewhere" {
			t.Errorf("the contract is %+v", c)
		}
		said := len(s.statuses)
		later(10 * time.Minute)
		if len(s.statuses) != said {
			t.Errorf("nothing happened, and %d words more", len(s.statuses)-said)
		}

		// Somebody removes one: it is wanted still.
		if err := h.Stop(context.Background(), a.Device); err != nil {
			t.Fatal(err)
		}
		s.want(12, a, b)
		later(time.Second)
		if len(devices(t, h)) != 2 {
			t.Error("a device that was wanted is gone")
		}

		s.want(20, doing(a, api.Keep, 20), doing(b, api.Release, 20))
		later(time.Second)
		if list := devices(t, h); s.said() != "kept\ngone" || len(list) != 1 || list[0].ID != a.Device {
			t.Errorf("%q: %+v", s.said(), list)
		}
		stop()
		stop = running(t, h, s, true)
		later(time.Second)
		if list := devices(t, h); s.said() != "kept\ngone" || len(list) != 1 {
			t.Errorf("after a new start: %q: %+v", s.said(), list)
		}

		// The list does not name it any more: it stays.
		s.want(30)
		later(time.Minute)
		if len(devices(t, h)) != 1 {
			t.Error("it was removed although nobody wanted that")
		}

		// Now it is a source that is left; a guest has it open for a while.
		d, err := h.Open(a.Device)
		if err != nil {
			t.Fatal(err)
		}
		s.want(41, api.Assignment{Migration: "m40", Claim: "c40", Fence: 40, Step: 41, Do: api.Release, AtSource: true, Device: a.Device, Spec: api.ClaimDevice{Source: a.Device, Device: "x", Type: v4}})
		later(time.Minute)
		if !strings.HasPrefix(s.said(), "busy") || len(devices(t, h)) != 1 {
			t.Errorf("in use: %q", s.said())
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		later(time.Minute)
		if s.said() != "gone" || len(devices(t, h)) != 0 {
			t.Errorf("no longer in use: %q", s.said())
		}
	})
}

// TestRefused: what an agent does not do, and says why.
func TestRefused(t *testing.T) {
	theirs := startRequest(9)
	for name, c := range map[string]struct {
		policy string
		do     api.Assignment
		want   string
		left   int
	}{
		"not allowed":             {"canaries: [{parent: \"*\"}]\n", making(1, 10, 11), "failed: the host's operator does not let", 1},
		"another type is allowed": {"manage: [{parent: sim0, type: ksim-V5}]\n", making(1, 10, 11), "failed: the host's operator does not let", 1},
		"to remove is not allowed": {"canaries: []\n", api.Assignment{
			Claim: "c", Fence: 10, Step: 11, Do: api.Release, AtSource: true, Device: theirs.ID, Spec: api.ClaimDevice{Source: theirs.ID},
		}, "stuck: the host's operator does not let", 1},
		"another's name": {hosts.AllowAll, func() api.Assignment { a := making(1, 10, 11); a.Device = theirs.ID; return a }(), "failed: there is a device of this name, which was not made for this claim", 1},
		"another's device": {hosts.AllowAll, func() api.Assignment {
			a := doing(making(1, 10, 11), api.Release, 12)
			a.Device = theirs.ID
			return a
		}(), "stuck: there is a device of this name, which was not made for this claim", 1},
		"no such type":    {hosts.AllowAll, func() api.Assignment { a := making(1, 10, 11); a.Spec.Type.Name = "V9"; return a }(), "failed: ", 1},
		"nothing to keep": {hosts.AllowAll, doing(making(1, 10, 11), api.Keep, 11), "gone: it is not there any more", 1},
		"not there":       {hosts.AllowAll, doing(making(1, 10, 11), api.Release, 11), "gone", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, s := host(t, "gen9"), newServer("gen9")
				if err := create(h, 9); err != nil {
					t.Fatal(err)
				}
				if err := h.Allow(c.policy); err != nil {
					t.Fatal(err)
				}
				stop := running(t, h, s, true)
				defer stop()
				s.want(12, c.do)
				later(5 * time.Minute)
				if !strings.HasPrefix(s.said(), c.want) || len(devices(t, h)) != c.left {
					t.Errorf("it said %q, %d devices", s.said(), len(devices(t, h)))
				}
				if len(s.statuses) != 1 {
					t.Errorf("it said so %d times", len(s.statuses))
				}
			})
		})
	}
}

// TestFence: of a device the newest assignment counts, also after the agent was
// started again, and whichever server says otherwise.
func TestFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := host(t, "gen9"), newServer("gen9")
		stop := running(t, h, s, true)
		old := making(1, 10, 11)
		s.want(11, old)
		later(time.Second)
		s.want(12, doing(old, api.Release, 12))
		later(time.Second)
		newer := old
		newer.Claim, newer.Fence, newer.Step = "c20", 20, 21
		s.want(21, newer)
		later(time.Second)
		if len(devices(t, h)) != 1 {
			t.Fatal("a newer claim was not made")
		}
		for round, again := range []bool{false, true} {
			if again {
				stop()
				stop = running(t, h, s, true)
			}
			for i, late := range []api.Assignment{doing(old, api.Release, 12), doing(newer, api.Release, 20)} {
				said := len(s.statuses)
				s.want(int64(30+10*round+i), late)
				later(2 * time.Minute)
				if len(devices(t, h)) != 1 || len(s.statuses) != said+1 || !strings.HasPrefix(s.said(), "later: make, for step 21 of claim c20,") {
					t.Errorf("an older assignment was carried out, after a new start: %t; it said %q", again, s.said())
				}
			}
		}
		// A whole list that is old.
		s.want(9, doing(newer, api.Release, 99))
		later(2 * time.Minute)
		if len(devices(t, h)) != 1 {
			t.Error("an older list was carried out")
		}
		s.want(100, doing(newer, api.Release, 99))
		later(2 * time.Minute)
		if len(devices(t, h)) != 0 || s.said() != "gone" {
			t.Errorf("a newer assignment was not carried out: %q", s.said())
		}
		stop()
	})
}
