// SPDX-License-Identifier: Apache-2.0

package hook

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

// fleet is a server with what the hook asks of it.
type fleet struct {
	mu         sync.Mutex
	migrations []*api.Migration
	claims     []api.Claim
	keys       map[string]string // of what was made -> its id

	refusals []error       // of the next wishes for a migration
	takes    time.Duration // how long a host takes to make or remove devices
	fails    string        // why it cannot make them
	down     func(what string) error

	said []string // what was changed, in order
	end  api.Abort
}

var errDown = errors.New("connection refused")

func (f *fleet) ask(what string) error {
	if f.down != nil {
		return f.down(what)
	}
	return nil
}

// work lets the hosts do what they have to, by the clock.
func (f *fleet) work() {
	for _, m := range f.migrations {
		if time.Since(m.Changed) < f.takes {
			continue
		}
		switch {
		case m.State == api.Claimed && f.fails != "":
			m.State, m.Changed, m.Reason = api.Aborting, time.Now(), f.fails
		case m.State == api.Claimed:
			m.State, m.Changed = api.Prepared, time.Now()
		case m.State == api.Aborting:
			m.State, m.Changed = api.Aborted, time.Now()
		}
	}
}

func (f *fleet) Migrations(_ context.Context, all bool) (list []api.Migration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.work()
	for _, m := range f.migrations {
		if all || !m.State.Over() {
			list = append(list, *m)
		}
	}
	return list, f.ask("list")
}

func (f *fleet) Claims(context.Context, bool) ([]api.Claim, error) { return f.claims, f.ask("list") }

func (f *fleet) find(id string) *api.Migration {
	i := slices.IndexFunc(f.migrations, func(m *api.Migration) bool { return m.ID == id })
	return f.migrations[i]
}

func (f *fleet) CreateMigration(_ context.Context, key string, r *api.MigrationRequest) (*api.Migration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask("create"); err != nil {
		return nil, err
	}
	if len(f.refusals) > 0 {
		err := f.refusals[0]
		f.refusals = f.refusals[1:]
		if err != nil {
			return nil, err
		}
	}
	if id, ok := f.keys[key]; ok {
		c := *f.find(id)
		return &c, nil
	}
	m := &api.Migration{ID: fmt.Sprintf("m%d", len(f.migrations)+1), State: api.Claimed, Changed: time.Now(), Deadline: time.Now().Add(10 * time.Minute), Source: "a", Target: r.Target, Owner: r.Owner, Claim: r.Claim}
	devices := r.Devices
	if r.Claim != "" {
		i := slices.IndexFunc(f.claims, func(c api.Claim) bool { return c.ID == r.Claim })
		c := f.claims[i]
		m.Target, m.Owner, devices = c.Target, c.Owner, nil
		for _, d := range c.Devices {
			devices = append(devices, d.Source)
		}
	}
	for _, d := range devices {
		m.Devices = append(m.Devices, api.MigrationDevice{Source: d, Target: onTarget(d)})
	}
	f.migrations = append(f.migrations, m)
	if f.keys == nil {
		f.keys = make(map[string]string)
	}
	f.keys[key] = m.ID
	f.said = append(f.said, "begin "+m.ID)
	c := *m
	return &c, nil
}

// onTarget is what a device is called there.
func onTarget(device string) string {
	if strings.Contains(device, ":") {
		return "0000:99:00.1"
	}
	return "ffff" + device[4:]
}

func (f *fleet) Migration(_ context.Context, id string) (*api.Migration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.work()
	c := *f.find(id)
	return &c, f.ask("read")
}

func (f *fleet) HandOver(_ context.Context, id string) (*api.Migration, error) {
	return f.change(id, "hand-over", api.HandedOver)
}

func (f *fleet) Complete(_ context.Context, id string) (*api.Migration, error) {
	return f.change(id, "complete", api.Completing)
}

func (f *fleet) Abort(_ context.Context, id string, a *api.Abort) (*api.Migration, error) {
	m, err := f.change(id, "abort", api.Aborting)
	if err == nil {
		f.end = *a
	}
	return m, err
}

func (f *fleet) change(id, what string, state api.MigrationState) (*api.Migration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ask(what); err != nil {
		return nil, err
	}
	m := f.find(id)
	if m.State.Over() {
		return nil, api.NewProblem(api.WrongState, "%s", m.State)
	}
	m.State, m.Changed = state, time.Now()
	f.said = append(f.said, what+" "+id)
	c := *m
	return &c, nil
}
