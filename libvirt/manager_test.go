// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	rpc "github.com/digitalocean/go-libvirt"
	"github.com/google/go-cmp/cmp"

	"kindred/libvirt/hook"
	"kindred/vm"
)

const (
	deskID = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
	gpu    = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
	there  = "ffb8f4f2-509f-382f-3c1e-e6bfe0fa1001"
	second = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002"
)

func described(name, id string, devices ...string) string {
	text := "<domain><name>" + name + "</name><uuid>" + id + "</uuid><devices>"
	for _, d := range devices {
		text += "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='" + d + "'/></source></hostdev>"
	}
	return text + "</devices></domain>"
}

func desk() *kept {
	return &kept{name: "desk", uuid: deskID, state: rpc.DomainRunning, xml: described("desk", deskID, gpu), inactive: described("desk", deskID, gpu)}
}

func connect(t *testing.T, d *daemon) Manager {
	t.Helper()
	c, err := Dial(t.Context(), d.uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return Manager{c}
}

// TestGuests: domains with the devices that they have, by whatever they are called.
func TestGuests(t *testing.T) {
	paused := &kept{name: "chair", uuid: "4dea22b3-1d52-d8f3-2516-782e98ab3fa1", state: rpc.DomainPaused, reason: int32(rpc.DomainPausedUser), xml: described("chair", deskID)}
	m := connect(t, newDaemon(t, desk(), paused))
	list, err := m.Guests(t.Context())
	want := []vm.Guest{
		{Name: "chair", UUID: paused.uuid, State: vm.Paused, Devices: []vm.Device{}},
		{Name: "desk", UUID: deskID, State: vm.Running, Devices: []vm.Device{{ID: gpu, Mdev: true, Model: "vfio-pci"}}},
	}
	if d := cmp.Diff(want, list); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	for _, name := range []string{"desk", deskID, strings.ToUpper(deskID)} {
		if g, err := m.Guest(t.Context(), name); err != nil || g.UUID != deskID {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
	}
	if _, err := m.Guest(t.Context(), "table"); !errors.Is(err, ErrNoDomain) || err.Error() != "domain table: Domain not found" {
		t.Errorf("table: %v", err)
	}
}

// TestMove: what libvirt is asked for, and what is known of the domain then.
func TestMove(t *testing.T) {
	const refusedText = "operation failed: qemu-system-x86_64: error while loading state for instance 0x0 of device '0000:00:03.0/vfio'\nqemu-system-x86_64: load of migration failed: Invalid argument"
	for name, c := range map[string]struct {
		to     vm.Target
		end    *refusal
		after  func(*daemon) // with the migration's end
		stop   bool
		says   string
		stayed bool
		flags  rpc.DomainMigrateFlags
	}{
		"it goes":     {flags: rpc.MigrateLive | rpc.MigratePeer2peer},
		"for good":    {to: vm.Target{Persist: true, Undefine: true, Migrate: "tcp://b"}, flags: rpc.MigrateLive | rpc.MigratePeer2peer | rpc.MigratePersistDest | rpc.MigrateUndefineSource},
		"refused":     {end: &refusal{rpc.ErrOperationFailed, "operation failed: no route"}, says: "migrate desk: operation failed: no route", stayed: true},
		"by a driver": {end: &refusal{rpc.ErrOperationFailed, refusedText}, says: "Invalid argument", stayed: true},
		"it is off":   {end: &refusal{rpc.ErrOperationFailed, "lost"}, after: func(d *daemon) { d.domains[0].state = rpc.DomainShutoff }, says: "the domain is off now"},
		"it is gone":  {end: &refusal{rpc.ErrOperationFailed, "lost"}, after: func(d *daemon) { d.domains = nil }, says: "does not say where"},
		"stopped":     {stop: true, says: "canceled by client", stayed: true},
		"connection":  {end: &refusal{rpc.ErrOperationFailed, "never heard"}, after: func(d *daemon) { cut(d.conns) }, says: "interrupted", stayed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDaemon(t, desk())
			d.stats = map[string]uint64{rpc.DomainJobDataTotal: 100, rpc.DomainJobDataProcessed: 45, rpc.DomainJobDataRemaining: 55, rpc.DomainJobMemoryBps: 7, rpc.DomainJobDowntime: 57, rpc.DomainJobTimeElapsed: 1500}
			m := connect(t, d)
			g, err := m.Guest(t.Context(), "desk")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c.to.URI = "qemu+tls://b/system"
			told := 0
			end, err := m.Move(ctx, g, map[string]string{gpu: there}, c.to, func(p vm.Progress) {
				if p.Total != 100 || p.Done != 45 || p.Left != 55 || p.Rate != 7 {
					t.Errorf("it tells %+v", p)
				}
				if told++; told > 1 {
					return
				}
				if c.stop {
					cancel()
					return
				}
				d.mu.Lock()
				defer d.mu.Unlock()
				if c.after != nil {
					c.after(d)
				}
				d.move <- c.end
			})
			s, stayed := errors.AsType[*vm.Stayed](err)
			if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) || stayed != c.stayed {
				t.Errorf("got %v (stayed %v), want %q (stayed %v)", err, stayed, c.says, c.stayed)
			}
			if rejected := stayed && s.Rejected != ""; rejected != (name == "by a driver") {
				t.Errorf("rejected: %v", rejected)
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			want := map[string]string{"to": "qemu+tls://b/system", rpc.MigrateParamDestXML: described("desk", deskID, there)}
			if c.to.Persist {
				want[rpc.MigrateParamPersistXML], want[rpc.MigrateParamURI] = described("desk", deskID, there), "tcp://b"
			}
			if diff := cmp.Diff(want, d.asked); diff != "" || d.aborted != c.stop || c.flags != 0 && d.flags != c.flags {
				t.Errorf("libvirt was asked (aborted %v, flags %d) %s", d.aborted, d.flags, diff)
			}
			if err == nil && (*end.Downtime != 57*time.Millisecond || *end.Took != 1500*time.Millisecond || *end.Bytes != 45) {
				t.Errorf("it took %+v", end)
			}
		})
	}
}

// TestWatch: what a follower sees of a domain, also when libvirt is away a while.
func TestWatch(t *testing.T) {
	d := newDaemon(t, desk())
	w := &Watch{URI: d.uri}
	defer w.Close()
	look := func(id string) hook.Sight {
		t.Helper()
		s, err := w.Look(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := look(second); s.Phase != hook.Absent {
		t.Errorf("none: %+v", s)
	}
	for _, c := range []struct {
		state  rpc.DomainState
		reason int32
		want   hook.Phase
	}{
		{rpc.DomainRunning, 0, hook.Arrived},
		{rpc.DomainPaused, int32(rpc.DomainPausedMigration), hook.Incoming},
		{rpc.DomainPaused, int32(rpc.DomainPausedStartingUp), hook.Incoming},
		{rpc.DomainPaused, int32(rpc.DomainPausedUser), hook.Arrived},
		{rpc.DomainPmsuspended, 0, hook.Arrived},
		{rpc.DomainShutdown, 0, hook.Incoming},
		{rpc.DomainShutoff, 0, hook.Absent},
		{rpc.DomainCrashed, 0, hook.Absent},
	} {
		d.mu.Lock()
		d.domains[0].state, d.domains[0].reason = c.state, c.reason
		d.mu.Unlock()
		if s := look(deskID); s.Phase != c.want || s.Phase != hook.Absent && !cmp.Equal(s.Devices, []string{gpu}) {
			t.Errorf("%d, %d: %+v, want %s", c.state, c.reason, s, c.want)
		}
	}
	d.cut()
	lost := false
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if _, err := w.Look(t.Context(), deskID); err == nil {
			break
		}
		lost = true
	}
	if s := look(deskID); s.Phase != hook.Absent || !lost {
		t.Errorf("after it was away: %+v; it was seen to be away: %v", s, lost)
	}
	d.mu.Lock()
	d.deaf = true
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := w.Look(ctx, deskID); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a daemon that hangs: %v", err)
	}
}

// TestCame: libvirt told that a migration brought a domain, which is no more when it
// is looked at.
func TestCame(t *testing.T) {
	k := desk()
	d := newDaemon(t, k)
	w := &Watch{URI: d.uri}
	defer w.Close()
	if s, err := w.Look(t.Context(), deskID); err != nil || s.Came {
		t.Fatalf("%+v, %v", s, err)
	}
	d.tell(k, uint32(rpc.DomainEventStarted), uint32(rpc.DomainEventStartedMigrated)) // it waits for its state
	<-w.Changed()
	if s, err := w.Look(t.Context(), deskID); err != nil || s.Came {
		t.Fatalf("%+v, %v", s, err)
	}
	d.tell(k, uint32(rpc.DomainEventResumed), uint32(rpc.DomainEventResumedMigrated))
	<-w.Changed()
	d.mu.Lock()
	d.domains = nil
	d.mu.Unlock()
	if s, err := w.Look(t.Context(), deskID); err != nil || s.Phase != hook.Absent || !s.Came {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestRedefine: a definition with the source's devices gets the target's, and every
// other one stays.
func TestRedefine(t *testing.T) {
	for name, c := range map[string]struct{ was, want string }{
		"the source's": {described("desk", deskID, gpu), described("desk", deskID, there)},
		"the target's": {described("desk", deskID, there), described("desk", deskID, there)},
		"others":       {described("desk", deskID, second), described("desk", deskID, second)},
		"one of two":   {described("desk", deskID, second, gpu), described("desk", deskID, second, there)},
		"none at all":  {"", ""},
	} {
		k := desk()
		k.inactive = c.was
		d := newDaemon(t, k)
		w := &Watch{URI: d.uri}
		if err := w.Redefine(t.Context(), deskID, map[string]string{gpu: there}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		w.Close()
		d.mu.Lock()
		if k.inactive != c.want || k.xml != described("desk", deskID, gpu) {
			t.Errorf("%s: it is %s", name, k.inactive)
		}
		d.mu.Unlock()
	}
	w := &Watch{URI: newDaemon(t).uri}
	defer w.Close()
	if err := w.Redefine(t.Context(), deskID, map[string]string{gpu: there}); err != nil {
		t.Errorf("a domain that went: %v", err)
	}
}

// TestAddresses: what is none on this machine is said at once.
func TestAddresses(t *testing.T) {
	for _, uri := range []string{"", "qemu+tcp://b/system", "qemu://b/system", "qemu+ssh:///system", "\x00"} {
		if _, err := Dial(t.Context(), uri); err == nil {
			t.Errorf("%q is taken for an address", uri)
		}
	}
	if _, err := Dial(t.Context(), "qemu+unix:///system?socket="+t.TempDir()+"/none"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("nobody listens: %v", err)
	}
}
