// SPDX-License-Identifier: Apache-2.0

package hosts_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"kindred/agent"
	"kindred/api"
	"kindred/inventory"
	"kindred/sim/hosts"
)

// line is an agent's connection with the server, which can be cut: what is under
// way ends, and nothing goes through.
type line struct {
	agent.Fleet
	mu  sync.Mutex
	up  context.Context
	cut context.CancelFunc
}

func newLine(f agent.Fleet) *line {
	l := &line{Fleet: f}
	l.mend()
	return l
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up, l.cut = context.WithCancel(context.Background())
}

func (l *line) sever() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut()
}

var errCut = errors.New("the line is cut")

// through does a call that ends when the line is cut.
func through[T any](ctx context.Context, l *line, call func(context.Context) (T, error)) (T, error) {
	l.mu.Lock()
	up := l.up
	l.mu.Unlock()
	var none T
	if up.Err() != nil {
		return none, errCut
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(up, func() { cancel(errCut) })()
	return call(ctx)
}

func (l *line) Report(ctx context.Context, host string, r *api.Report) (*api.ReportAnswer, error) {
	return through(ctx, l, func(ctx context.Context) (*api.ReportAnswer, error) { return l.Fleet.Report(ctx, host, r) })
}

func (l *line) Alive(ctx context.Context, host string, a *api.Alive) (*api.ReportAnswer, error) {
	return through(ctx, l, func(ctx context.Context) (*api.ReportAnswer, error) { return l.Fleet.Alive(ctx, host, a) })
}

func (l *line) PutStatic(ctx context.Context, hash string, static *inventory.Inventory) error {
	_, err := through(ctx, l, func(ctx context.Context) (bool, error) { return true, l.Fleet.PutStatic(ctx, hash, static) })
	return err
}

func (l *line) Assignments(ctx context.Context, host string, take func(*api.Assignments) error) error {
	_, err := through(ctx, l, func(ctx context.Context) (bool, error) { return true, l.Fleet.Assignments(ctx, host, take) })
	return err
}

func (l *line) Status(ctx context.Context, host string, r *api.StatusReport) error {
	_, err := through(ctx, l, func(ctx context.Context) (bool, error) { return true, l.Fleet.Status(ctx, host, r) })
	return err
}

// Times of the cuts, around the ones of newSite's server.
const (
	silentAfter = 5 * time.Second // the server's timeout
	claimFor    = 8 * time.Second // the claims' deadline
)

// cut is one case: whose line is cut, when and for how long.
type cut struct {
	who  string // target, source, both; vm: the VM manager says nothing any more
	when api.MigrationState
	long time.Duration
	// moves is true where the VM manager has moved the guest all the same.
	moves bool
}

func (c cut) String() string {
	return fmt.Sprintf("%s, %s, %v, moves %t", c.who, c.when, c.long, c.moves)
}

// TestCuts cuts lines before and after the hand over, for a moment, around the
// server's timeout and beyond the claim's deadline, and for the VM manager for
// ever. Afterwards each migration is over, each device is there once, where its
// guest runs, and no room is held.
func TestCuts(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for deadlines")
	}
	var cases []cut
	for _, who := range []string{"target", "source", "both"} {
		for _, when := range []api.MigrationState{api.Claimed, api.HandedOver} {
			for _, long := range []time.Duration{100 * time.Millisecond, silentAfter - 500*time.Millisecond, silentAfter + 500*time.Millisecond, claimFor + 2*time.Second} {
				cases = append(cases, cut{who, when, long, true})
			}
		}
	}
	cases = append(cases, cut{"vm", api.Prepared, 0, false}, cut{"vm", api.HandedOver, 0, false}, cut{"vm", api.HandedOver, 0, true})
	var names []string
	for i := range cases {
		names = append(names, fmt.Sprintf("gen8:from-%02d", i), fmt.Sprintf("gen9:to-%02d", i))
	}
	s := newSite(t, names...)
	lines := make(map[string]*line)
	for name := range s.hosts {
		s.agents[name].stop()
		lines[name] = newLine(s.client)
		s.runOn(name, 0, lines[name])
	}
	s.reported()
	guests := make([][]string, len(cases))
	for i := range cases {
		guests[i] = s.guest(fmt.Sprintf("vm-%02d", i), fmt.Sprintf("from-%02d", i), 1)
	}
	var all sync.WaitGroup
	ends := make(chan string, len(cases))
	for i, c := range cases {
		all.Go(func() {
			end, err := s.through(c, i, guests[i], lines)
			if err != nil {
				t.Errorf("%v: %v", c, err)
			}
			ends <- fmt.Sprintf("%v: %s", c, end)
		})
	}
	all.Wait()
	close(ends)
	for end := range ends {
		t.Log(end)
	}
}

// through carries one migration with its cut, and says how it ended.
func (s *site) through(c cut, i int, ids []string, lines map[string]*line) (end api.MigrationState, err error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 60*time.Second)
	defer cancel()
	from, to, vm := fmt.Sprintf("from-%02d", i), fmt.Sprintf("to-%02d", i), fmt.Sprintf("vm-%02d", i)
	var cuts []*line
	if c.who == "target" || c.who == "both" {
		cuts = append(cuts, lines[to])
	}
	if c.who == "source" || c.who == "both" {
		cuts = append(cuts, lines[from])
	}
	sever := func() {
		for _, l := range cuts {
			l.sever()
		}
		time.AfterFunc(c.long, func() {
			for _, l := range cuts {
				l.mend()
			}
		})
	}
	if c.when == api.Claimed {
		sever()
	}
	mig, err := s.client.CreateMigration(ctx, "", &api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: ids, Target: to, Owner: vm, TTL: api.Duration(claimFor)}})
	if err != nil {
		return "", err
	}
	if err := s.manage(ctx, c, mig.ID, vm, sever); err != nil {
		return "", err
	}
	last, err := hosts.Await(ctx, s.client, mig.ID, api.MigrationState.Over)
	if err != nil {
		return "", err
	}
	return last.State, s.whole(ctx, last, vm, map[string]string{from: to, to: from})
}

// manage is the VM manager's part, with the cut.
func (s *site) manage(ctx context.Context, c cut, id, vm string, sever func()) error {
	_, err := hosts.Await(ctx, s.client, id, func(st api.MigrationState) bool { return st == api.Prepared })
	if errors.Is(err, hosts.ErrOver) {
		return nil
	}
	if err != nil || c.when == api.Prepared {
		return err
	}
	mig, err := s.client.HandOver(ctx, id)
	if errors.Is(err, &api.Problem{Code: api.WrongState}) || errors.Is(err, &api.Problem{Code: api.DeadlinePassed}) {
		return nil // too late: the guest stays
	}
	if err != nil {
		return err
	}
	if c.when == api.HandedOver {
		sever()
	}
	if !c.moves {
		return nil
	}
	if _, err := s.vms.Move(ctx, vm, mig.Target, map[string]string{mig.Devices[0].Source: mig.Devices[0].Target}); err != nil {
		return err
	}
	if c.who == "vm" {
		return nil // it says nothing of it
	}
	_, err = s.client.Complete(ctx, id)
	return err
}

// whole checks that the device is there once, where the guest runs and the record
// says, and that no room is held.
func (s *site) whole(ctx context.Context, m *api.Migration, vm string, other map[string]string) error {
	on, ids, err := s.vms.On(vm)
	if err != nil {
		return err
	}
	if on != m.Host {
		return fmt.Errorf("the guest runs on %s, and the devices are %s's, %s: %s", on, m.Host, m.State, m.Reason)
	}
	if here, there := s.devices(on), s.devices(other[on]); !slices.Equal(here, ids) || len(there) != 0 {
		return fmt.Errorf("the guest has %q, %s has %q, %s has %q", ids, on, here, other[on], there)
	}
	if err := s.vms.Work(vm); err != nil {
		return err
	}
	claim, err := s.client.Claim(ctx, m.Claim)
	if err == nil && claim.State != api.Ended {
		err = fmt.Errorf("its claim is %s", claim.State)
	}
	return err
}
