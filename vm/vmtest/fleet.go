// SPDX-License-Identifier: Apache-2.0

// Package vmtest is a fleet's server for tests of those who have it prepare VMs'
// migrations: it promises to go from state to state as a real one with two hosts,
// by the clock, and to refuse and fail when it is told to. What it was told to
// change it notes.
package vmtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"kindred/api"
)

// Fleet is a server, for package vm.
type Fleet struct {
	Known    []*api.Migration // those that were begun
	Claimed  []api.Claim
	Refusals []error                 // of the next wishes for a migration; nil grants one
	Takes    time.Duration           // how long a host takes to make or remove devices
	Fails    string                  // why the target cannot make them
	Down     func(what string) error // an error instead of an answer

	Said []string  // what was changed, in order
	End  api.Abort // how it was aborted last
	// Resets are devices that were said to have been reset.
	Resets []api.Rejection

	mu   sync.Mutex
	keys map[string]string // of what was made -> its id
}

// ErrDown is how a server that is not there fails.
var ErrDown = errors.New("connection refused")

// Begun is a migration that was begun before.
func Begun(id string, state api.MigrationState, owner, device, target string) *api.Migration {
	return &api.Migration{ID: id, State: state, Owner: owner, Source: "a", Target: target, Changed: time.Now(), Deadline: time.Now().Add(time.Hour),
		Devices: []api.MigrationDevice{{Source: device, Target: OnTarget(device)}}}
}

func (f *Fleet) ask(what string) error {
	if f.Down != nil {
		return f.Down(what)
	}
	return nil
}

// work lets the hosts do what they have to, by the clock.
func (f *Fleet) work() {
	for _, m := range f.Known {
		if time.Since(m.Changed) < f.Takes {
			continue
		}
		switch {
		case m.State == api.Claimed && f.Fails != "":
			m.State, m.Changed, m.Reason = api.Aborting, time.Now(), f.Fails
		case m.State == api.Claimed:
			m.State, m.Changed = api.Prepared, time.Now()
		case m.State == api.Aborting:
			m.State, m.Changed = api.Aborted, time.Now()
		case m.State == api.Completing:
			m.State, m.Changed = api.Completed, time.Now()
		}
	}
}

// Migrations lists migrations.
func (f *Fleet) Migrations(_ context.Context, all bool) (list []api.Migration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.work()
	for _, m := range f.Known {
		if all || !m.State.Over() {
			list = append(list, *m)
		}
	}
	return list, f.ask("list")
}

// Claims lists claims.
func (f *Fleet) Claims(context.Context, bool) ([]api.Claim, error) { return f.Claimed, f.ask("list") }

func (f *Fleet) find(id string) *api.Migration {
	i := slices.IndexFunc(f.Known, func(m *api.Migration) bool { return m.ID == id })
	return f.Known[i]
}

// CreateMigration begins a migration, once for each key.
func (f *Fleet) CreateMigration(_ context.Context, key string, r *api.MigrationRequest) (*api.Migration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask("create"); err != nil {
		return nil, err
	}
	if len(f.Refusals) > 0 {
		err := f.Refusals[0]
		f.Refusals = f.Refusals[1:]
		if err != nil {
			return nil, err
		}
	}
	if id, ok := f.keys[key]; ok {
		c := *f.find(id)
		return &c, nil
	}
	m := &api.Migration{ID: fmt.Sprintf("m%d", len(f.Known)+1), State: api.Claimed, Changed: time.Now(), Deadline: time.Now().Add(10 * time.Minute), Source: "a", Target: r.Target, Owner: r.Owner, Claim: r.Claim}
	devices := r.Devices
	if r.Claim != "" {
		i := slices.IndexFunc(f.Claimed, func(c api.Claim) bool { return c.ID == r.Claim })
		c := f.Claimed[i]
		m.Target, m.Owner, devices = c.Target, c.Owner, nil
		for _, d := range c.Devices {
			devices = append(devices, d.Source)
		}
	}
	for _, d := range devices {
		if host, id, ok := strings.Cut(d, "/"); ok {
			m.Source, d = host, id
		}
		m.Devices = append(m.Devices, api.MigrationDevice{Source: d, Target: OnTarget(d)})
	}
	f.Known = append(f.Known, m)
	if f.keys == nil {
		f.keys = make(map[string]string)
	}
	f.keys[key] = m.ID
	f.Said = append(f.Said, "begin "+m.ID)
	c := *m
	return &c, nil
}

// OnTarget is what a device is called there.
func OnTarget(device string) string {
	if strings.Contains(device, ":") {
		return "0000:99:00.1"
	}
	return "ffff" + device[4:]
}

// Migration is one migration.
func (f *Fleet) Migration(_ context.Context, id string) (*api.Migration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.work()
	c := *f.find(id)
	return &c, f.ask("read")
}

// HandOver hands over.
func (f *Fleet) HandOver(_ context.Context, id string) (*api.Migration, error) {
	return f.change(id, "hand-over", api.HandedOver)
}

// CompleteWith completes; what was completed may be completed again.
func (f *Fleet) CompleteWith(_ context.Context, id string, with *api.Completion) (*api.Migration, error) {
	what := "complete"
	if with != nil && with.NoProof {
		what = "complete without proof"
	}
	if with != nil && len(with.Rejected) > 0 {
		what = "complete with a rejection"
		f.Resets = with.Rejected
	}
	return f.change(id, what, api.Completing)
}

// Abort aborts.
func (f *Fleet) Abort(_ context.Context, id string, a *api.Abort) (*api.Migration, error) {
	m, err := f.change(id, "abort", api.Aborting)
	if err == nil {
		f.End = *a
	}
	return m, err
}

func (f *Fleet) change(id, what string, state api.MigrationState) (*api.Migration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(what); err != nil {
		return nil, err
	}
	m := f.find(id)
	if m.State == api.Completed && state == api.Completing || m.State == api.Aborted && state == api.Aborting {
		state = m.State // it may be said again
	} else if m.State.Over() {
		return nil, api.NewProblem(api.WrongState, "%s", m.State)
	}
	m.State, m.Changed = state, time.Now()
	f.Said = append(f.Said, what+" "+id)
	c := *m
	return &c, nil
}
