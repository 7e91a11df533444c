// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kindred/api"
	"kindred/vm"
	"kindred/vm/vmtest"
)

const gpu = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

// manager is a VM manager that takes ten seconds to move a VM.
type manager struct {
	vm.Manager
	ends    error
	open    bool
	asked   bool
	devices map[string]string
	to      vm.Target
}

func (m *manager) Move(ctx context.Context, _ *vm.Guest, devices map[string]string, to vm.Target, tell func(vm.Progress)) (*vm.End, error) {
	m.asked, m.devices, m.to = true, devices, to
	tell(vm.Progress{Total: 10, Done: 5})
	select {
	case <-time.After(10 * time.Second):
	case <-ctx.Done():
		return nil, &vm.Stayed{Err: ctx.Err()}
	}
	if m.ends != nil {
		return nil, m.ends
	}
	return &vm.End{Took: new(10 * time.Second), Open: m.open, Followed: !m.open}, nil
}

// TestRun: how a VM's migration ends, and what the fleet is told.
func TestRun(t *testing.T) {
	refused := api.NewProblem(api.NoRoom, "as told")
	for name, c := range map[string]struct {
		fleet   *vmtest.Fleet
		guest   *vm.Guest
		ends    error         // of the manager
		open    bool          // the manager keeps the source's devices open
		follows time.Duration // when the target says that the VM runs; 0: nobody does
		stop    time.Duration // when nobody wants to wait any more

		says  string
		said  string
		asked bool // the manager was
		state api.MigrationState
	}{
		"it goes":                {fleet: &vmtest.Fleet{Takes: time.Second}, said: "begin m1, hand-over m1, complete without proof m1", asked: true, state: api.Completed},
		"and the target says so": {fleet: &vmtest.Fleet{Takes: time.Second}, follows: 12 * time.Second, said: "begin m1, hand-over m1, complete m1", asked: true, state: api.Completed},
		"and is not cleared":     {fleet: &vmtest.Fleet{Takes: 20 * time.Second}, open: true, said: "begin m1, hand-over m1, complete without proof m1", asked: true, state: api.Completing},
		"begun before":           {fleet: &vmtest.Fleet{Known: []*api.Migration{vmtest.Begun("x", api.Prepared, "desk", gpu, "b")}}, said: "hand-over x, complete without proof x", asked: true, state: api.Completed},
		"from another host": {fleet: &vmtest.Fleet{Known: []*api.Migration{{ID: "x", State: api.Prepared, Owner: "desk", Source: "c", Target: "b", Devices: []api.MigrationDevice{{Source: gpu, Target: "y"}}}}},
			said: "begin m2, hand-over m2, complete without proof m2", asked: true, state: api.Completed},
		"it stays":            {fleet: new(vmtest.Fleet), ends: &vm.Stayed{Err: errors.New("no route")}, says: "desk stays on a: no route", said: "begin m1, hand-over m1, abort m1", asked: true},
		"refused by a driver": {fleet: new(vmtest.Fleet), ends: &vm.Stayed{Err: errors.New("load failed"), Rejected: "EINVAL"}, says: "load failed", said: "begin m1, hand-over m1, abort m1", asked: true},
		"nobody knows":        {fleet: new(vmtest.Fleet), ends: errors.New("connection lost"), says: "not known where desk runs", said: "begin m1, hand-over m1", asked: true},
		"stopped by its user": {fleet: new(vmtest.Fleet), stop: 4 * time.Second, says: "canceled", said: "begin m1, hand-over m1, abort m1", asked: true},
		"before it began":     {fleet: &vmtest.Fleet{Takes: 20 * time.Second}, stop: 4 * time.Second, says: "in time", said: "begin m1, abort m1"},
		"not in time":         {fleet: &vmtest.Fleet{Takes: time.Hour}, says: "in time", said: "begin m1, abort m1"},
		"no room":             {fleet: &vmtest.Fleet{Refusals: []error{refused}}, says: "as told"},
		"nothing to move":     {fleet: new(vmtest.Fleet), guest: &vm.Guest{Name: "desk", State: vm.Running}, says: "none of the host's devices"},
		"off":                 {fleet: new(vmtest.Fleet), guest: &vm.Guest{Name: "desk", State: vm.Off, Devices: []vm.Device{{ID: gpu}}}, says: "desk is off"},
		"the server is gone at the end": {fleet: &vmtest.Fleet{Down: func(what string) error {
			if strings.HasPrefix(what, "complete") {
				return vmtest.ErrDown
			}
			return nil
		}}, says: "the fleet was not told", said: "begin m1, hand-over m1", asked: true, state: api.HandedOver},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if c.guest == nil {
					c.guest = &vm.Guest{Name: "desk", State: vm.Running, Devices: []vm.Device{{ID: gpu, Mdev: true}}}
				}
				m := &manager{ends: c.ends, open: c.open}
				var seen []string
				told := 0
				run := &vm.Migration{
					Preparation: vm.Preparation{Fleet: c.fleet, Guest: c.guest, Source: "a", Target: "b", Seen: func(m *api.Migration) {
						if n := len(seen); n == 0 || seen[n-1] != string(m.State) {
							seen = append(seen, string(m.State))
						}
					}},
					Manager: m, To: vm.Target{URI: "there"}, Wait: time.Minute, Tell: func(vm.Progress) { told++ },
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.stop > 0 {
					time.AfterFunc(c.stop, cancel)
				}
				if c.follows > 0 {
					time.AfterFunc(c.follows, func() { _, _ = c.fleet.CompleteWith(ctx, "m1", nil) })
				}
				result, err := run.Run(ctx)
				if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want %q", err, c.says)
				}
				if said := strings.Join(c.fleet.Said, ", "); said != c.said {
					t.Errorf("it said %q, want %q", said, c.said)
				}
				if m.asked != c.asked || m.asked && (m.to.URI != "there" || m.devices[gpu] != vmtest.OnTarget(gpu) || told != 1) {
					t.Errorf("the manager was asked %v, to %+v, with %v; told %d times", m.asked, m.to, m.devices, told)
				}
				if (result != nil) != (c.state != "") || result != nil && (result.Migration.State != c.state || *result.End.Took != 10*time.Second) {
					t.Errorf("the result is %+v, want %s", result, c.state)
				}
				if s, ok := errors.AsType[*vm.Stayed](c.ends); ok && c.fleet.End.Rejected != s.Rejected {
					t.Errorf("rejected: %q", c.fleet.End.Rejected)
				}
				if name == "it goes" && strings.Join(seen, " ") != "claimed prepared handed-over completing completed" {
					t.Errorf("seen: %v", seen)
				}
			})
		})
	}
}
