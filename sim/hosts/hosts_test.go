// SPDX-License-Identifier: Apache-2.0

package hosts

import (
	"context"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"kindred/host/change"
	"kindred/host/vfio"
	"kindred/inventory"
	"kindred/sim"
)

func newHost(t *testing.T, build string) *Host {
	t.Helper()
	list, err := sim.Fleet(build)
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(build, list[0], t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func start(t *testing.T, h *Host, n int) string {
	t.Helper()
	dev, err := h.Start(t.Context(), change.Request{ID: sim.UUID(h.Name, n), Parent: "sim0", Type: "ksim-V4"})
	if err != nil {
		t.Fatal(err)
	}
	return dev.ID
}

// TestHost: what was made is on record, whatever object stands for the host.
func TestHost(t *testing.T) {
	h := newHost(t, "gen9")
	if allowed, err := h.Policy(); err != nil || allowed.Managed("sim0", inventory.TypeName{Namespace: "ksim", Name: "V4"}) {
		t.Errorf("without a policy file: %+v, %v", allowed, err)
	}
	if err := h.Allow(AllowAll); err != nil {
		t.Fatal(err)
	}
	if allowed, err := h.Policy(); err != nil || !allowed.Managed("sim0", inventory.TypeName{Namespace: "ksim", Name: "V4"}) {
		t.Errorf("with a policy file: %+v, %v", allowed, err)
	}
	id := start(t, h, 1)
	select {
	case <-h.Changed():
	default:
		t.Error("nobody was told")
	}
	again, err := New("gen9", h.machine, h.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	inv, err := again.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := inv.Device(id); inv.Origin != inventory.FromSimulator || d == nil || !d.Ours || d.Contract == nil {
		t.Errorf("%+v", d)
	}
	if err := again.Stop(t.Context(), id); err != nil {
		t.Error(err)
	}
	if list, err := h.devices.Records.List(); err != nil || len(list) != 0 {
		t.Errorf("records are left: %q, %v", list, err)
	}
}

// TestMove moves a guest with two devices, each of a state of its own.
func TestMove(t *testing.T) {
	from, to := newHost(t, "gen8"), newHost(t, "gen9")
	a, b, c, d := start(t, from, 1), start(t, from, 2), start(t, to, 1), start(t, to, 2)
	m := NewManager(from, to)
	if err := m.Run("vm", "gen8", a, b); err != nil {
		t.Fatal(err)
	}
	if err := m.Work("vm"); err != nil {
		t.Fatal(err)
	}
	if err := from.Stop(t.Context(), a); err == nil {
		t.Error("a device that a guest has open was removed")
	}
	moved, err := m.Move(t.Context(), "vm", "gen9", map[string]string{a: c, b: d})
	if err != nil {
		t.Fatal(err)
	}
	if on, ids, err := m.On("vm"); err != nil || on != "gen9" || len(ids) != 2 || !slices.Contains(ids, c) || moved.Bytes < 2<<20 {
		t.Errorf("it is on %s with %q, %v, after %d bytes", on, ids, err, moved.Bytes)
	}
	if err := from.Stop(t.Context(), a); err != nil {
		t.Error(err)
	}

	// A guest that was never moved and did the same sees the same.
	there := newHost(t, "rel10")
	still := NewManager(there)
	if err := still.Run("vm", "rel10", start(t, there, 1), start(t, there, 2)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // one of Work, one of Move
		if err := still.Work("vm"); err != nil {
			t.Fatal(err)
		}
	}
	want, err := still.Sees("vm")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Sees("vm"); err != nil || !slices.Equal(got, want) {
		t.Errorf("it sees %q, and %q had it stayed: %v", got, want, err)
	}
	if err := m.Stop("vm"); err != nil {
		t.Error(err)
	}
}

// TestMoveFails makes each operation on the target fail in turn: the guest runs
// on where it was and sees what it saw, and the target's devices are closed.
func TestMoveFails(t *testing.T) {
	from, to := newHost(t, "gen8"), newHost(t, "gen9")
	a, c := start(t, from, 1), start(t, to, 1)
	m := NewManager(from, to)
	if err := m.Run("vm", "gen8", a); err != nil {
		t.Fatal(err)
	}
	before, err := m.Sees("vm")
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; ; n++ {
		to.machine.Faults.Set(sim.Fault{N: n, As: unix.EIO})
		_, err := m.Move(t.Context(), "vm", "gen9", map[string]string{a: c})
		if err == nil {
			if n < 10 {
				t.Errorf("nothing failed from operation %d on", n)
			}
			break
		}
		to.machine.Faults.Set()
		if on, _, err := m.On("vm"); err != nil {
			t.Fatal(err)
		} else if on == "gen9" { // what failed was after the guest was there
			break
		}
		after, err := m.Sees("vm")
		if err != nil || !slices.Equal(before, after) {
			t.Fatalf("operation %d failed: the guest sees %q, before %q, %v", n, after, before, err)
		}
		inv, err := to.Inventory(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if d := inv.Device(c); d == nil || d.InUse != inventory.No {
			t.Fatalf("operation %d failed: the target is %+v", n, d)
		}
	}
	refusing := newHost(t, "rel20")
	if err := m.Stop("vm"); err != nil {
		t.Fatal(err)
	}
	m = NewManager(from, refusing)
	if err := m.Run("vm", "gen8", a); err != nil {
		t.Fatal(err)
	}
	_, err = m.Move(t.Context(), "vm", "rel20", map[string]string{a: start(t, refusing, 1)})
	if e, ok := errors.AsType[*vfio.Error](err); !ok || e.Kind != vfio.KindRefused {
		t.Errorf("a driver that does not take it: %v", err)
	}
}
