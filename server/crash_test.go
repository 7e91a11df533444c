// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"kindred/api"
	"kindred/server/store"
)

// crashing is a store under a server that stops for good at one of its
// transactions: before it was done, or after, without having heard of it.
type crashing struct {
	Store
	mu    sync.Mutex
	left  int // transactions until it stops; negative: it does not
	after bool
	done  int
	dead  bool
}

var errDead = fmt.Errorf("%w: this server has stopped", store.ErrUncertain)

func (c *crashing) Commit(ctx context.Context, t store.Txn) (revision int64, ok bool, err error) {
	err = c.commit(func() error {
		revision, ok, err = c.Store.Commit(ctx, t)
		return err
	})
	return revision, ok && err == nil, err
}

func (c *crashing) CommitEach(ctx context.Context, list []store.Txn) (revision int64, ok []bool, err error) {
	err = c.commit(func() error {
		revision, ok, err = c.Store.CommitEach(ctx, list)
		return err
	})
	return revision, ok, err
}

func (c *crashing) commit(do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errDead
	}
	c.done++
	if c.left == 0 {
		c.dead = true
		if c.after {
			do()
		}
		return errDead
	}
	c.left--
	return do()
}

func (c *crashing) stopped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

// story is what a VM manager does with one migration, from a to b. Each time it
// is called it goes on as far as it can; whatever it was answered, it asks
// again with the same key.
type story struct {
	name string
	tell func(ctx context.Context, s *Server, w *world)
	pass time.Duration // from one round to the next
	want api.MigrationState
	prep func(w *world)
}

// world is a fleet in which one VM is to move from a to b.
type world struct {
	a, b *machine
	id   string // of the migration, once it is known
	vm   string // where the VM runs
	mute bool   // the VM manager is no more
}

func (w *world) create(ctx context.Context, s *Server) *api.Migration {
	m, err := s.CreateMigration(ctx, "test", "key", api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: []string{dev1}, Target: "b", TTL: api.Duration(10 * time.Minute)}})
	if err != nil {
		return nil
	}
	w.id = m.ID
	return m
}

// handOver takes the devices when they are there, and opens them on the target,
// as a VM manager does that waits for a state.
func (w *world) handOver(ctx context.Context, s *Server) *api.Migration {
	m := w.create(ctx, s)
	if m == nil || m.State != api.Prepared && m.State != api.HandedOver {
		return nil
	}
	if m, err := s.HandOver(ctx, m.ID, 0); err == nil {
		w.b.device(m.Devices[0].Target).open = true
		return m
	}
	return nil
}

// move lets the VM run on the target.
func (w *world) move() {
	w.a.devices[0].open, w.vm = false, "b"
}

var stories = []story{
	{name: "complete", want: api.Completed, tell: func(ctx context.Context, s *Server, w *world) {
		if w.vm == "a" && w.handOver(ctx, s) != nil {
			w.move()
		}
		if w.vm == "b" {
			s.Complete(ctx, w.id, 0)
		}
	}},
	{name: "abort at once", want: api.Aborted, tell: func(ctx context.Context, s *Server, w *world) {
		if w.create(ctx, s) != nil {
			s.Abort(ctx, w.id, 0, api.Abort{Reason: "changed my mind"})
		}
	}},
	{name: "abort prepared", want: api.Aborted, tell: func(ctx context.Context, s *Server, w *world) {
		if m := w.create(ctx, s); m != nil && m.State == api.Prepared {
			s.Abort(ctx, w.id, 0, api.Abort{})
		}
	}},
	{name: "rejected", want: api.Aborted, tell: func(ctx context.Context, s *Server, w *world) {
		if m := w.handOver(ctx, s); m != nil {
			w.b.device(m.Devices[0].Target).open = false
			s.Abort(ctx, w.id, 0, api.Abort{Rejected: "EINVAL while loading"})
		}
	}},
	{name: "the target fails", want: api.Aborted, prep: func(w *world) { w.b.fails = "EIO" }, tell: func(ctx context.Context, s *Server, w *world) { w.create(ctx, s) }},
	{name: "nobody comes back", pass: 4 * time.Minute, want: api.Aborted, tell: func(ctx context.Context, s *Server, w *world) {
		if w.id == "" {
			w.create(ctx, s)
		}
	}},
	{name: "lost, moved", pass: 2 * time.Minute, want: api.Completed, tell: func(ctx context.Context, s *Server, w *world) {
		if !w.mute && w.handOver(ctx, s) != nil {
			w.move()
			w.mute = true
		}
	}},
	{name: "lost, stayed", pass: 2 * time.Minute, want: api.Aborted, tell: func(ctx context.Context, s *Server, w *world) {
		if m := (*api.Migration)(nil); !w.mute {
			if m = w.handOver(ctx, s); m != nil {
				w.b.device(m.Devices[0].Target).open, w.mute = false, true
			}
		}
	}},
}

// TestCrash stops the server at each of its transactions, before and after, in
// each story. Another server carries on, and what has to be in the end is.
func TestCrash(t *testing.T) {
	for _, st := range stories {
		t.Run(st.name, func(t *testing.T) {
			whole := crash(t, st, -1, false)
			if whole < 6 {
				t.Fatalf("%d transactions: this is not the story", whole)
			}
			for k := range whole {
				crash(t, st, k, false)
				crash(t, st, k, true)
			}
			t.Logf("%d transactions, stopped before and after each", whole)
		})
	}
}

// crash tells a story with a stop at transaction k, and returns how many there
// were until then.
func crash(t *testing.T, st story, k int, after bool) int {
	t.Helper()
	what := fmt.Sprintf("stopped at %d, after %v", k, after)
	w := &world{a: newMachine("a", 4, &made{id: dev1, typ: "large", open: true}), b: newMachine("b", 4), vm: "a"}
	if st.prep != nil {
		st.prep(w)
	}
	r := newRig(t, w.a, w.b)
	kept := r.open()
	c := &crashing{Store: kept, left: k, after: after}
	s := r.start(c)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for round := range 40 {
		for _, act := range []func(){
			func() { w.a.work(ctx, s.Server) },
			func() { w.b.work(ctx, s.Server) },
			func() { s.Sweep(ctx) },
			func() { st.tell(ctx, s.Server, w) },
		} {
			act()
			if c.stopped() && s.store == Store(c) {
				s.stop()
				s = r.start(kept)
			}
			if err := w.sound(ctx, s.Server); err != nil {
				t.Fatalf("%s, round %d: %v", what, round, err)
			}
		}
		r.pass(st.pass)
		if w.id == "" {
			continue
		}
		m, err := s.Migration(ctx, w.id)
		if err != nil {
			continue
		}
		if m.State.Over() && round > 2 {
			if err := w.settled(ctx, s.Server, m, st.want); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			s.stop()
			return c.done
		}
	}
	m, err := s.Migration(ctx, w.id)
	t.Fatalf("%s: it does not end: %+v, %v", what, m, err)
	return 0
}

// sound is what holds at every moment: the device in which the VM runs is
// there, and so is the one of the owner on record.
func (w *world) sound(ctx context.Context, s *Server) error {
	if w.vm == "a" && w.a.device(dev1) == nil {
		return errors.New("the VM's device on a was removed")
	}
	if w.id == "" {
		return nil
	}
	m, err := s.Migration(ctx, w.id)
	if err != nil {
		return nil // it was not written
	}
	if err := consistent(m); err != nil {
		return err
	}
	if w.vm == "b" && w.b.device(m.Devices[0].Target) == nil {
		return fmt.Errorf("the VM's device on b was removed while %s: %s", m.State, m.Reason)
	}
	if m.Host == "a" && w.a.device(dev1) == nil || m.Host == "b" && w.b.device(m.Devices[0].Target) == nil {
		return fmt.Errorf("%s is the owner, while %s, and has no device", m.Host, m.State)
	}
	return nil
}

// settled is what holds in the end: one device, the owner's; no room held; a
// history in which the owner changed once or never.
func (w *world) settled(ctx context.Context, s *Server, m *api.Migration, want api.MigrationState) error {
	if m.State != want {
		return fmt.Errorf("it was %s, want %s: %s", m.State, want, m.Reason)
	}
	onA, onB := len(w.a.devices), len(w.b.devices)
	if want == api.Completed && (onA != 0 || onB != 1 || w.b.devices[0].claim != "") || want == api.Aborted && (onA != 1 || onB != 0) {
		return fmt.Errorf("%s, with %d devices on a and %d on b", m.State, onA, onB)
	}
	s.view.mu.RLock()
	open, devices := len(s.view.onTarget["b"]), len(s.view.devices)
	s.view.mu.RUnlock()
	if open != 0 || devices != 0 {
		return fmt.Errorf("%s, and %d claims hold room, %d devices are claimed", m.State, open, devices)
	}
	if m.Claim != "" {
		if c, err := s.Claim(ctx, m.Claim); err != nil || c.State != api.Ended {
			return fmt.Errorf("%s, and its claim is %+v, %v", m.State, c, err)
		}
	}
	return nil
}
