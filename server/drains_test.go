// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kindred/api"
	"kindred/fleet"
)

// yard is a fleet with VMs on it, whose manager carries what drains prepare.
type yard struct {
	machines []*machine
	vms      []*yardVM
	drain    string // its id
	order    api.DrainOrder
	rejects  map[string]int // moves of a VM that a driver refuses
	dead     map[string]bool
}

// yardVM is a VM as its manager sees it.
type yardVM struct {
	name  string
	host  *machine
	ids   []string
	apart []string
	named bool // in the order
}

func (y *yard) machine(name string) *machine {
	return y.machines[slices.IndexFunc(y.machines, func(m *machine) bool { return m.name == name })]
}

// run puts a VM with new devices on a machine.
func (y *yard) run(name, host string, named bool, apart []string, types ...string) {
	vm := &yardVM{name: name, host: y.machine(host), named: named, apart: apart}
	for i, typ := range types {
		id := fmt.Sprintf("00000000-0000-4000-8000-%06x%02x%04x", len(y.vms)+1, i, 0)
		vm.host.devices = append(vm.host.devices, &made{id: id, typ: typ, open: true})
		vm.ids = append(vm.ids, id)
	}
	if named {
		o := fleet.Owner{Name: name, Apart: apart}
		for _, id := range vm.ids {
			o.Devices = append(o.Devices, host+"/"+id)
		}
		y.order.Owners = append(y.order.Owners, o)
	}
	y.vms = append(y.vms, vm)
}

// with is the VM that has a device of a migration.
func (y *yard) with(m *api.Migration) *yardVM {
	for _, vm := range y.vms {
		if vm.host.name == m.Source && slices.Contains(vm.ids, m.Devices[0].Source) {
			return vm
		}
	}
	return nil
}

// manage is the VM manager: it takes what is prepared, and moves it.
func (y *yard) manage(ctx context.Context, s *Server) error {
	for _, m := range s.Migrations("", 0, false).Migrations {
		switch m.State {
		case api.Prepared:
			if y.dead[m.Source] || y.dead[m.Target] {
				continue
			}
			if _, err := s.HandOver(ctx, m.ID, 0); err != nil {
				return nil // it is asked again
			}
			fallthrough
		case api.HandedOver:
			if err := y.move(ctx, s, m.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func (y *yard) move(ctx context.Context, s *Server, id string) error {
	m, err := s.Migration(ctx, id)
	if err != nil || m.State != api.HandedOver || y.dead[m.Source] || y.dead[m.Target] {
		return nil
	}
	if vm := y.with(m); vm != nil {
		if y.rejects[vm.name] > 0 {
			if _, err := s.Abort(ctx, id, 0, api.Abort{Rejected: "EINVAL"}); err == nil {
				y.rejects[vm.name]--
			}
			return nil
		}
		target := y.machine(m.Target)
		if len(m.Devices) != len(vm.ids) {
			return fmt.Errorf("%s has %d devices, and %d are moved", vm.name, len(vm.ids), len(m.Devices))
		}
		var ids []string
		for _, d := range m.Devices {
			on := target.device(d.Target)
			if on == nil {
				return fmt.Errorf("%s was handed over, and %s has no device %s", m.ID, m.Target, d.Target)
			}
			on.open = true
			ids = append(ids, d.Target)
		}
		for _, id := range vm.ids {
			vm.host.device(id).open = false
		}
		vm.host, vm.ids = target, ids
	}
	_, _ = s.Complete(ctx, id, 0) // and if it was not heard, again
	return nil
}

// sound is what holds at every moment.
func (y *yard) sound(ctx context.Context, s *Server) error {
	at := make(map[string]map[string]bool) // VM -> hosts
	for _, vm := range y.vms {
		at[vm.name] = map[string]bool{vm.host.name: true}
		for _, id := range vm.ids {
			if vm.host.device(id) == nil {
				return fmt.Errorf("%s runs on %s, where its device %s was removed", vm.name, vm.host.name, id)
			}
		}
	}
	moving := 0
	for _, m := range s.Migrations("", 0, true).Migrations {
		if m.Drain == "" || m.State.Over() {
			continue
		}
		if slices.Contains(y.order.Hosts, m.Target) {
			return fmt.Errorf("%s is moved to %s, which is drained", m.Owner, m.Target)
		}
		if underWay(m.State) {
			moving++
		}
		if vm := y.with(&m); vm != nil {
			at[vm.name][m.Target] = true
			if len(m.Devices) != len(vm.ids) {
				return fmt.Errorf("%s is moved with %d of %d devices", vm.name, len(m.Devices), len(vm.ids))
			}
		}
	}
	if moving > y.order.AtOnce {
		return fmt.Errorf("%d moves are under way, %d are allowed", moving, y.order.AtOnce)
	}
	for i, a := range y.vms {
		for _, b := range y.vms[:i] {
			if !slices.ContainsFunc(a.apart, func(l string) bool { return slices.Contains(b.apart, l) }) {
				continue
			}
			for host := range at[a.name] {
				if at[b.name][host] {
					return fmt.Errorf("%s and %s are to be kept apart, and both on, or on the way to, %s", a.name, b.name, host)
				}
			}
		}
	}
	for _, m := range y.machines {
		if m.left() < 0 {
			return fmt.Errorf("%s has more devices than it has room for", m.name)
		}
	}
	return nil
}

// settled is what holds when the drain is over: each VM of the drained hosts is
// elsewhere, or listed with why it is not; nothing else was moved or left behind.
func (y *yard) settled(ctx context.Context, s *Server, began map[string]string) error {
	d, err := s.Drain(ctx, y.drain, true)
	if err != nil {
		return err
	}
	listed := make(map[string]*api.DrainOwner)
	for i := range d.Owners {
		if o := &d.Owners[i]; o.State == api.OwnerStays {
			for _, id := range o.Devices {
				listed[o.Host+"/"+id] = o
			}
		}
	}
	for _, vm := range y.vms {
		drained := slices.Contains(y.order.Hosts, began[vm.name])
		stays := slices.Contains(y.order.Hosts, vm.host.name)
		switch o := listed[vm.host.name+"/"+vm.ids[0]]; {
		case !drained && vm.host.name != began[vm.name]:
			return fmt.Errorf("%s was on %s, which was not drained, and is on %s", vm.name, began[vm.name], vm.host.name)
		case stays && (o == nil || o.Code == "" || o.Reason == ""):
			return fmt.Errorf("%s is still on %s, and nothing says why: %+v", vm.name, vm.host.name, o)
		case !stays && o != nil:
			return fmt.Errorf("%s is on %s, and is said to stay: %+v", vm.name, vm.host.name, o)
		}
	}
	return nil
}

// told is how the drain stands, for a test that fails.
func (y *yard) told(ctx context.Context, s *Server) string {
	d, err := s.Drain(ctx, y.drain, true)
	if err != nil {
		return err.Error()
	}
	text := fmt.Sprintf("%s, %d waiting, %d staying, %d moving, %d moved", d.State, d.Waiting, d.Staying, d.Moving, d.Moved)
	for _, o := range d.Owners {
		text += fmt.Sprintf("\n%s on %s: %s %s %s %s %s", o.Owner, o.Host, o.State, o.Target, o.Step, o.Code, o.Reason)
	}
	return text
}

// carryOut starts the drain and goes on until it is over. The server is stopped
// for good at its k-th transaction, after it or before; another one goes on. What
// is to hold is looked at after each act; each is called once in each round.
func (y *yard) carryOut(t *testing.T, r *rig, k int, after bool, each func(round int, s *running)) (transactions int, s *running) {
	t.Helper()
	what := fmt.Sprintf("stopped at %d, after %v", k, after)
	kept := r.open()
	c := &crashing{Store: kept, left: k, after: after}
	s = r.start(c)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := make(map[string]string)
	for _, vm := range y.vms {
		began[vm.name] = vm.host.name
	}
	for round := range 80 {
		var acts []func() error
		for _, m := range y.machines {
			if !y.dead[m.name] {
				acts = append(acts, func() error { _ = m.work(ctx, s.Server); return nil })
			}
		}
		acts = append(acts, func() error {
			if y.drain == "" && round > 0 {
				if d, err := s.StartDrain(ctx, "test", "key", y.order); err == nil {
					y.drain = d.ID
				}
			}
			return nil
		},
			func() error { _ = s.CarryDrains(ctx); return nil },
			func() error { return y.manage(ctx, s.Server) },
			func() error { _ = s.Sweep(ctx); return nil },
			func() error { each(round, s); return nil },
		)
		for _, act := range acts {
			err := act()
			if c.stopped() && s.store == Store(c) {
				s.stop()
				s = r.start(kept)
			}
			if err = errors.Join(err, y.sound(ctx, s.Server)); err != nil {
				t.Fatalf("%s, round %d: %v", what, round, err)
			}
		}
		r.pass(20 * time.Second)
		if d := s.view.drain(y.drain); d != nil && d.State.Over() {
			if err := y.settled(ctx, s.Server, began); err != nil {
				t.Fatalf("%s: %v\n%s", what, err, y.told(ctx, s.Server))
			}
			return c.done, s
		}
	}
	t.Fatalf("%s: it does not end: %s", what, y.told(ctx, s.Server))
	return 0, nil
}

func asItIs(int, *running) {}

// newRack is two machines to be drained, and others.
func newRack(rest ...*machine) *yard {
	y := &yard{rejects: make(map[string]int), dead: make(map[string]bool)}
	y.machines = append([]*machine{newMachine("rack-1", 12), newMachine("rack-2", 12)}, rest...)
	y.order = api.DrainOrder{DrainRequest: api.DrainRequest{Hosts: []string{"rack-1", "rack-2"}, AtOnce: 2}, TTL: api.Duration(3 * time.Minute)}
	y.run("vm-1", "rack-1", true, nil, "large", "large")
	y.run("vm-2", "rack-1", true, []string{"db"}, "small")
	y.run("vm-3", "rack-2", true, []string{"db"}, "large")
	y.run("vm-4", "rack-2", false, nil, "small")
	y.run("vm-5", "rack-2", true, []string{"web"}, "small", "large")
	return y
}

func (y *yard) rig(t *testing.T) *rig { return newRig(t, y.machines...) }

// TestDrain: all are moved, within the limit.
func TestDrain(t *testing.T) {
	y := newRack(newMachine("b", 8), newMachine("c", 8))
	y.run("vm-6", "c", true, []string{"web"}, "small") // vm-5 is not put beside it
	_, s := y.carryOut(t, y.rig(t), -1, false, asItIs)
	d, err := s.Drain(t.Context(), y.drain, true)
	if err != nil || d.Moved != 5 || d.State != api.DrainDone || len(d.Stays) != 0 || d.Moving != 0 {
		t.Errorf("%+v, %v", d, err)
	}
	if again, err := s.StartDrain(t.Context(), "test", "key", y.order); err != nil || again.ID != y.drain {
		t.Errorf("the same request again: %+v, %v", again, err)
	}
	if _, err := s.ResumeDrain(t.Context(), y.drain, 0); err != nil {
		t.Errorf("resume: %v", err)
	}
	if err := s.CarryDrains(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d, err := s.Drain(t.Context(), y.drain, true); err != nil || d.State != api.DrainDone {
		t.Errorf("nothing is left, and it is %+v, %v", d, err)
	}
}

var every = flag.Bool("every", false, "stop the server before and after each transaction of a drain, not at one of the two")

// TestDrainCrash drains a rack while a driver refuses, a host makes nothing and
// another one dies; the server is stopped before or after each transaction.
func TestDrainCrash(t *testing.T) {
	crash := func(k int, after bool) int {
		y := newRack(newMachine("b", 6), newMachine("c", 8), newMachine("d", 8))
		y.rejects["vm-1"] = 1
		y.machine("b").fails = "EIO"
		n, _ := y.carryOut(t, y.rig(t), k, after, func(round int, s *running) {
			switch round {
			case 3:
				y.dead["d"] = true
			case 12:
				y.machine("b").fails = ""
			case 20:
				y.dead["d"] = false
			}
		})
		return n
	}
	whole := crash(-1, false)
	if whole < 40 {
		t.Fatalf("%d transactions: this is not the story", whole)
	}
	for k := range whole {
		crash(k, k%2 == 0)
		if *every {
			crash(k, k%2 == 1)
		}
	}
	t.Logf("%d transactions, stopped at each", whole)
}

// TestDrainStays: what cannot be moved is listed with why; when there is room
// after all, it is moved.
func TestDrainStays(t *testing.T) {
	y := newRack(newMachine("b", 4), newMachine("c", 2))
	y.run("vm-6", "b", true, []string{"db"}, "small")
	r := y.rig(t)
	_, s := y.carryOut(t, r, -1, false, asItIs)
	d, err := s.Drain(t.Context(), y.drain, true)
	if err != nil || d.Staying == 0 || len(d.Stays) != d.Staying {
		t.Fatalf("%+v, %v", d, err)
	}
	reasons := make(map[string]string)
	for _, o := range d.Stays {
		reasons[o.Owner] = o.Code
	}
	if reasons["vm-1"] != string(fleet.StayFull) && reasons["vm-1"] != string(fleet.StayTaken) || d.Moved+d.Staying != 5 {
		t.Errorf("%v, %d moved", reasons, d.Moved)
	}
	y.machine("b").units, y.machine("c").units = 40, 40
	for _, m := range y.machines {
		if err := m.work(t.Context(), s.Server); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.ResumeDrain(t.Context(), y.drain, 0); err != nil {
		t.Fatal(err)
	}
	s.stop()
	y.drain = ""
	_, s = y.carryOut(t, r, -1, false, asItIs)
	// One of vm-2 and vm-3 has to stay: c takes one of them, b has vm-6.
	if d, err = s.Drain(t.Context(), y.drain, true); err != nil || d.Moved != 4 || len(d.Stays) != 1 || d.Stays[0].Code != string(fleet.StayApart) {
		t.Errorf("with room: %s, %v", y.told(t.Context(), s.Server), err)
	}
}

// TestDrainSteered: pause, resume and cancel, with and without the moves.
func TestDrainSteered(t *testing.T) {
	for _, abort := range []bool{false, true} {
		y := newRack(newMachine("b", 20))
		r := y.rig(t)
		s := r.start(r.open())
		ctx := t.Context()
		for _, m := range y.machines {
			if err := m.work(ctx, s.Server); err != nil {
				t.Fatal(err)
			}
		}
		began, err := s.StartDrain(ctx, "test", "", y.order)
		if err != nil {
			t.Fatal(err)
		}
		y.drain = began.ID
		if _, err := s.PauseDrain(ctx, y.drain, began.Revision+1000); !errors.Is(err, &api.Problem{Code: api.RevisionChanged}) {
			t.Errorf("another revision: %v", err)
		}
		if d, err := s.PauseDrain(ctx, y.drain, 0); err != nil || d.State != api.DrainPaused {
			t.Fatalf("%+v, %v", d, err)
		}
		step := func() {
			if err := s.CarryDrains(ctx); err != nil {
				t.Fatal(err)
			}
			for _, m := range y.machines {
				if err := m.work(ctx, s.Server); err != nil {
					t.Fatal(err)
				}
			}
		}
		step()
		if n := s.view.moving(y.drain); n != 0 {
			t.Errorf("paused, and %d moves began", n)
		}
		if _, err := s.ResumeDrain(ctx, y.drain, 0); err != nil {
			t.Fatal(err)
		}
		step()
		if n := s.view.moving(y.drain); n != y.order.AtOnce {
			t.Errorf("resumed, and %d moves began", n)
		}
		taken := ""
		for _, m := range s.Migrations("", 0, false).Migrations {
			if m.State != api.Prepared {
				t.Fatalf("%+v", m)
			}
			taken = m.ID
		}
		if _, err := s.HandOver(ctx, taken, 0); err != nil {
			t.Fatal(err)
		}
		if d, err := s.CancelDrain(ctx, y.drain, 0, api.DrainCancel{Abort: abort}); err != nil || d.State != api.DrainCancelled {
			t.Fatalf("%+v, %v", d, err)
		}
		step()
		step()
		states := make(map[api.MigrationState]int)
		for _, m := range s.Migrations("", 0, true).Migrations {
			states[m.State]++
			if m.ID == taken && m.State != api.HandedOver {
				t.Errorf("what the VM manager has is %s", m.State)
			}
		}
		want := map[api.MigrationState]int{api.HandedOver: 1, api.Prepared: 1}
		if abort {
			want = map[api.MigrationState]int{api.HandedOver: 1, api.Aborted: 1}
		}
		if !maps.Equal(states, want) {
			t.Errorf("cancelled, abort %v: %v, want %v", abort, states, want)
		}
		if _, err := s.ResumeDrain(ctx, y.drain, 0); !errors.Is(err, &api.Problem{Code: api.WrongState}) || !strings.Contains(err.Error(), "cancelled") {
			t.Errorf("resume: %v", err)
		}
		s.stop()
	}
}

// TestDrainReplicas: servers that all carry out the same drain at the same
// time begin no more together than one would.
func TestDrainReplicas(t *testing.T) {
	y := newRack(newMachine("b", 30), newMachine("c", 30))
	for i := range 9 {
		y.run(fmt.Sprint("vm-more-", i), "rack-1", i%2 == 0, nil, "small")
	}
	y.machine("rack-1").units = 40
	y.order.AtOnce = 3
	r := y.rig(t)
	var others []*running
	for range 2 {
		others = append(others, r.start(r.open()))
	}
	_, s := y.carryOut(t, r, -1, false, func(_ int, s *running) {
		var all sync.WaitGroup
		for _, one := range append(others, s) {
			all.Go(func() { _ = one.CarryDrains(t.Context()) })
		}
		all.Wait()
	})
	d, err := s.Drain(t.Context(), y.drain, true)
	if err != nil || d.Moved != 14 || d.Staying != 0 {
		t.Errorf("%+v, %v", d.Drain, err)
	}
	began := 0
	for _, m := range s.Migrations("", 0, true).Migrations {
		if m.Drain == y.drain {
			began++
		}
	}
	if began != 14 {
		t.Errorf("%d moves began for 14 owners", began)
	}
}

// TestDrainGivesUp: an owner whose state drivers refuse is tried on other hosts,
// three times in all.
func TestDrainGivesUp(t *testing.T) {
	y := newRack(newMachine("b", 20), newMachine("c", 20), newMachine("d", 20), newMachine("e", 20))
	y.rejects["vm-1"] = 100
	_, s := y.carryOut(t, y.rig(t), -1, false, asItIs)
	d, err := s.Drain(t.Context(), y.drain, true)
	if err != nil || d.Moved != 4 || len(d.Stays) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	if o := d.Stays[0]; o.Owner != "vm-1" || o.Code != string(api.MoveFailed) || o.Tries != api.MaxDrainTries || !strings.Contains(o.Reason, "EINVAL") {
		t.Errorf("%+v", o)
	}
	targets := make(map[string]bool)
	for _, m := range s.Migrations("", 0, true).Migrations {
		if m.Owner == "vm-1" {
			targets[m.Target] = true
		}
	}
	if len(targets) != api.MaxDrainTries {
		t.Errorf("it was tried on %v", targets)
	}
}

// TestDrainSilent: nobody is moved off a host that does not report, nor to one;
// when it reports again, the drain goes on.
func TestDrainSilent(t *testing.T) {
	y := newRack(newMachine("b", 20), newMachine("c", 20))
	r := y.rig(t)
	y.dead["c"] = true
	_, s := y.carryOut(t, r, -1, false, func(round int, s *running) {
		switch round {
		case 0:
			if err := y.machine("c").report(t.Context(), s.Server); err != nil {
				t.Fatal(err)
			}
			r.pass(time.Minute)
			for _, name := range []string{"rack-1", "b"} { // rack-2 and c are not heard any more
				if err := y.machine(name).work(t.Context(), s.Server); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			y.dead["rack-2"] = true
		case 2:
			d, err := s.Drain(t.Context(), y.drain, true)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range d.Owners {
				if o.Host == "rack-2" && (o.State != api.OwnerStays || o.Code != string(api.HostSilent)) || o.Target == "c" {
					t.Errorf("%+v", o)
				}
			}
		case 3:
			y.dead["rack-2"], y.dead["c"] = false, false
		}
	})
	if d, err := s.Drain(t.Context(), y.drain, true); err != nil || d.Moved != 5 {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestDrainProven: where only proven pairs are to be used, no other is.
func TestDrainProven(t *testing.T) {
	y := newRack(newMachine("b", 20))
	y.order.Proven = true
	_, s := y.carryOut(t, y.rig(t), -1, false, asItIs)
	d, err := s.Drain(t.Context(), y.drain, true)
	if err != nil || d.Moved != 0 || len(d.Stays) != 5 || d.Stays[0].Code != string(fleet.StayNowhere) {
		t.Errorf("without a proof: %+v, %v", d, err)
	}
	// A claim does not go by another parent than the plan's either.
	vm := y.vms[0]
	_, err = s.CreateClaim(t.Context(), "test", "", api.ClaimRequest{Devices: vm.ids, Target: "b", Proven: true})
	if !errors.Is(err, &api.Problem{Code: api.NotSettled}) {
		t.Errorf("a claim without a proof: %v", err)
	}
}

// TestDrainWaves: each wave waits for its hosts to be changed, or for a word,
// and the next one may go to hosts that are done.
func TestDrainWaves(t *testing.T) {
	y := newRack(newMachine("b", 5))
	y.machine("rack-1").units, y.machine("rack-2").units = 6, 6
	y.order.Wave, y.order.Hosts, y.order.Owners = 1, []string{"rack-*"}, nil
	r := y.rig(t)
	s := r.start(r.open())
	ctx := t.Context()
	y.order.AtOnce = 8
	round := func() *api.DrainDetail {
		t.Helper()
		for range 4 {
			for _, m := range y.machines {
				if err := m.work(ctx, s.Server); err != nil {
					t.Fatal(err)
				}
			}
			if y.drain == "" {
				d, err := s.StartDrain(ctx, "test", "", y.order)
				if err != nil {
					t.Fatal(err)
				}
				y.drain = d.ID
			}
			if err := errors.Join(s.CarryDrains(ctx), s.Sweep(ctx)); err != nil {
				t.Fatal(err)
			}
			for _, m := range s.Migrations("", 0, false).Migrations {
				if m.State == api.Prepared {
					if _, err := s.HandOver(ctx, m.ID, 0); err != nil {
						t.Fatal(err)
					}
					y.machine(m.Source).device(m.Devices[0].Source).open = false
					y.machine(m.Target).device(m.Devices[0].Target).open = true
					if _, err := s.Complete(ctx, m.ID, 0); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		d, err := s.Drain(ctx, y.drain, true)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	on := func(name string) int { return len(y.machine(name).devices) }
	if d := round(); d.State != api.DrainEmptied || d.Turn != 1 || on("rack-1") != 0 || on("b") != 3 {
		t.Fatalf("%+v; %d on rack-1, %d on b", d, on("rack-1"), on("b"))
	}
	if d := round(); d.State != api.DrainEmptied {
		t.Fatalf("nothing was changed: %+v", d)
	}
	if err := reportBuild(s, y.machine("rack-1"), "b2"); err != nil {
		t.Fatal(err)
	}
	if err := s.CarryDrains(ctx); err != nil {
		t.Fatal(err)
	}
	if d := s.view.drain(y.drain); d.State != api.DrainRunning || d.Turn != 2 {
		t.Fatalf("it was changed: %+v", d)
	}
	// The machine reports its old build again: its offers are taken as before.
	if d := round(); d.State != api.DrainEmptied || d.Turn != 2 || on("rack-2") != 0 || on("rack-1") == 0 {
		t.Fatalf("%+v; %d on rack-1, %d on rack-2", d, on("rack-1"), on("rack-2"))
	}
	if d, err := s.ResumeDrain(ctx, y.drain, 0); err != nil || d.State != api.DrainDone {
		t.Fatalf("%+v, %v", d, err)
	}
	if _, err := s.ResumeDrain(ctx, y.drain, 0); !errors.Is(err, &api.Problem{Code: api.WrongState}) {
		t.Errorf("resumed after the last wave: %v", err)
	}
}

// TestDrainCanary: a device that was made as a canary is nobody's, and a host is
// not empty before it is gone.
func TestDrainCanary(t *testing.T) {
	y := newRack(newMachine("b", 20), newMachine("c", 20))
	rack := y.machine("rack-1")
	rack.devices = append(rack.devices, &made{id: "00000000-0000-4000-8000-00000000cafe", typ: "small", open: true, canary: "order"})
	waited := false
	_, s := y.carryOut(t, y.rig(t), -1, false, func(_ int, s *running) {
		if d := s.view.drain(y.drain); d != nil && !d.Idle.IsZero() {
			waited = true
			rack.devices = slices.DeleteFunc(rack.devices, func(d *made) bool { return d.canary != "" })
		}
	})
	if !waited {
		t.Error("a canary was there, and the drain did not wait")
	}
	d, err := s.Drain(t.Context(), y.drain, true)
	if err != nil || d.Moved != 5 || len(d.Owners) != 5 {
		t.Errorf("%+v, %v", d, err)
	}
}

// say does what a machine is assigned, and says so, but reports nothing.
func (m *machine) say(t *testing.T, s *Server) {
	t.Helper()
	list, _ := s.Assignments(m.name)
	var r api.StatusReport
	for _, a := range list.Assignments {
		st := api.Status{Migration: a.Migration, Step: a.Step, Source: a.Spec.Source, Device: a.Device}
		st.State, st.Detail = m.carry(&a)
		r.Statuses = append(r.Statuses, st)
	}
	if err := s.Status(t.Context(), m.name, r); err != nil {
		t.Fatal(err)
	}
}

// TestDrainStale: a device that was moved is not moved again for a report of its
// host from before.
func TestDrainStale(t *testing.T) {
	y := newRack(newMachine("b", 20))
	y.machines = slices.DeleteFunc(y.machines, func(m *machine) bool { return m.name == "rack-2" })
	y.machine("rack-1").devices = []*made{{id: dev1, typ: "small"}}
	y.order.Hosts, y.order.Owners = []string{"rack-1"}, nil
	r := y.rig(t)
	s := r.start(r.open())
	rack, b, ctx := y.machine("rack-1"), y.machine("b"), t.Context()
	r.report(s, "rack-1", "b")
	d, err := s.StartDrain(ctx, "test", "", y.order)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CarryDrains(ctx); err != nil {
		t.Fatal(err)
	}
	b.say(t, s.Server)
	id := s.Migrations("", 0, false).Migrations[0].ID
	for _, step := range []func(context.Context, string, int64) (*api.Migration, error){s.HandOver, s.Complete} {
		if _, err := step(ctx, id, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.work(ctx, s.Server); err != nil { // its report has the device
		t.Fatal(err)
	}
	rack.say(t, s.Server)
	if m, err := s.Migration(ctx, id); err != nil || m.State != api.Completed || s.view.hosts["rack-1"].own().Devices[0].ID != dev1 {
		t.Fatalf("%+v, %v: the report is to be of before, and the migration over", m, err)
	}
	if err := s.CarryDrains(ctx); err != nil {
		t.Fatal(err)
	}
	if list := s.Migrations("", 0, true).Migrations; len(list) != 1 {
		t.Errorf("%+v", list)
	}
	if d, err := s.Drain(ctx, d.ID, true); err != nil || d.State != api.DrainDone || d.Moved != 1 || len(d.Owners) != 1 {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestDrainGuard: of servers that begin moves which were planned for the same
// moment, one does.
func TestDrainGuard(t *testing.T) {
	y := newRack(newMachine("b", 40), newMachine("c", 40))
	y.order.Policy = fleet.Spread
	y.order.AtOnce, y.order.Owners = 20, nil // it is the record that holds them back, not the limit
	r := y.rig(t)
	servers := []*running{r.start(r.open()), r.start(r.open())}
	s := servers[0]
	for _, m := range y.machines {
		if err := m.report(t.Context(), s.Server); err != nil {
			t.Fatal(err)
		}
	}
	d, err := s.StartDrain(t.Context(), "test", "", y.order)
	if err != nil {
		t.Fatal(err)
	}
	if !servers[1].view.wait(t.Context(), d.Revision, time.Minute) {
		t.Fatal("the other server does not know of it")
	}
	record, f := s.view.drain(d.ID), s.fleet()
	plan, err := s.view.scene(record, f).plan(f, record, s.now())
	if err != nil || plan.Moved != 7 {
		t.Fatalf("%+v, %v", plan, err)
	}
	// Two that have no host in common: nothing else keeps one from the other.
	first := &plan.Moves[0]
	other := slices.IndexFunc(plan.Moves, func(m fleet.Move) bool { return m.From != first.From && m.To != first.To })
	if other < 0 {
		t.Fatalf("%+v", plan.Moves)
	}
	errs := make([]error, len(servers))
	var all sync.WaitGroup
	for i, m := range []*fleet.Move{first, &plan.Moves[other]} {
		next := *record
		next.Began++
		all.Go(func() { errs[i] = servers[i].beginMove(t.Context(), &next, m) })
	}
	all.Wait()
	if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), errElse) {
		t.Errorf("%v", errs)
	}
	if n := s.view.moving(d.ID); n > 1 {
		t.Errorf("%d moves began", n)
	}
}

// TestDrainElsewhere: nobody is put on a host of another drain, nor on one whose
// agent makes nothing.
func TestDrainElsewhere(t *testing.T) {
	y := newRack(newMachine("b", 8), newMachine("c", 40))
	y.machine("c").mode = api.Observe
	y.machine("rack-1").units = 40
	y.order.Hosts, y.order.Policy = []string{"rack-2"}, fleet.Spread // the most room is elsewhere
	r := y.rig(t)
	var first string
	_, s := y.carryOut(t, r, -1, false, func(round int, s *running) {
		if round == 0 {
			d, err := s.StartDrain(t.Context(), "test", "", api.DrainOrder{DrainRequest: api.DrainRequest{Hosts: []string{"rack-1"}}})
			if err == nil {
				_, err = s.PauseDrain(t.Context(), d.ID, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
			first = d.ID
		}
	})
	moves := 0
	for _, m := range s.Migrations("", 0, true).Migrations {
		if m.Target != "b" {
			t.Errorf("%s is moved to %s", m.Owner, m.Target)
		}
		moves++
	}
	if moves == 0 {
		t.Error("nobody was moved")
	}
	if list := s.Drains("", 0, false).Drains; len(list) != 1 || list[0].ID != first {
		t.Errorf("%+v", list)
	}
}

// TestDrainWavesStay: what stays in one wave does not keep the next from its
// turn, and is listed in the end.
func TestDrainWavesStay(t *testing.T) {
	rack1, rack2 := newMachine("rack-1", 4, &made{id: dev1, typ: "large"}, &made{id: dev2, typ: "small"}), newMachine("rack-2", 4)
	r := newRig(t, rack1, rack2, newMachine("b", 1))
	s := r.start(r.open())
	ctx := t.Context()
	rack2.units = 0
	r.report(s, "rack-1", "rack-2", "b")
	order := api.DrainOrder{Wave: 1, DrainRequest: api.DrainRequest{Hosts: []string{"rack-1", "rack-2"}}}
	began, err := s.StartDrain(ctx, "test", "", order)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		for _, m := range r.machines {
			if err := m.work(ctx, s.Server); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(s.CarryDrains(ctx), s.Sweep(ctx)); err != nil {
			t.Fatal(err)
		}
		for _, m := range s.Migrations("", 0, false).Migrations {
			if m.State == api.Prepared {
				if _, err := s.HandOver(ctx, m.ID, 0); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Complete(ctx, m.ID, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		switch d := s.view.drain(began.ID); {
		case d.State == api.DrainEmptied && d.Turn == 1:
			t.Fatal("a host that is not empty waits to be changed")
		case d.State == api.DrainEmptied:
			if d, err := s.ResumeDrain(ctx, d.ID, 0); err != nil || d.State != api.DrainDone || d.Staying != 1 || len(d.Stays) != 1 || d.Stays[0].Devices[0] != dev1 {
				t.Errorf("%+v, %v", d, err)
			}
			return
		}
		r.pass(20 * time.Second)
	}
	t.Errorf("it does not end: %+v", s.view.drain(began.ID))
}
