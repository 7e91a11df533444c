// SPDX-License-Identifier: Apache-2.0

//go:build linux

package change

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"kindred/host/mdev"
	"kindred/host/record"
	"kindred/host/tree"
	"kindred/inventory"
)

const (
	uuid1 = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
	uuid2 = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002"
	vf    = "0000:01:00.1"
	bare  = "0000:01:00.2" // a VF without a driver
	gpu   = "0000:02:00.1"
)

// requests is one device of each kind, and how it shows that it is there.
var requests = map[string]struct {
	req   Request
	group string
	there func(m *machine) bool
}{
	"mdev": {
		Request{Kind: inventory.Mdev, ID: uuid1, Parent: "card", Type: "drv-a", Attributes: []Attribute{{"vendor/knob", "1"}, {"vendor/knob", "2"}}}, "7",
		func(m *machine) bool {
			return m.has("sys/devices/card/"+uuid1) && m.text("sys/devices/card/"+uuid1+"/vendor/knob") == "2"
		},
	},
	"vf": {
		Request{Kind: inventory.VF, ID: vf, Parent: "0000:01:00.0", Type: "var_vfio_pci-1234:0010", Attributes: []Attribute{{"migratable", "enable"}, {"mac", "52:54:00:12:34:56"}, {"vlan", "100:3"}}}, "011",
		func(m *machine) bool {
			return m.driver(vf) == "var_vfio_pci" && m.settings["mac"] == "52:54:00:12:34:56" && m.settings["vlan"] == "100:3" && m.settings["migratable"] == "enable"
		},
	},
	"vf without a driver": {
		Request{Kind: inventory.VF, ID: bare, Type: "var_vfio_pci-1234:0010"}, "012",
		func(m *machine) bool { return m.driver(bare) == "var_vfio_pci" },
	},
	"vgpu": {
		Request{Kind: inventory.VGPU, ID: gpu, Type: "nvidia-1148", Attributes: []Attribute{{"vgpu_params", "a=1"}}}, "021",
		func(m *machine) bool {
			return m.text("sys/devices/pci/"+gpu+"/nvidia/current_vgpu_type") == "1148" && m.text("sys/devices/pci/"+gpu+"/nvidia/vgpu_params") == "a=1"
		},
	},
}

func forEach(t *testing.T, test func(t *testing.T, m *machine, h *Host, req Request, there func() bool, group string)) {
	for name, c := range requests {
		run(t, name, func(t *testing.T) {
			m, h := newMachine(t)
			test(t, m, h, c.req, func() bool { return c.there(m) }, c.group)
		})
	}
}

// run runs a test on the test's own clock: however busy this machine is, nothing
// there takes longer than the host's patience that is not to.
func run(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// vgpuParams stay when a VF has no type any more: they are the driver's.
func sameState(t *testing.T, want, got string) {
	t.Helper()
	if diff := cmp.Diff(lines(want), lines(got)); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
}

func lines(state string) []string {
	return slices.DeleteFunc(strings.Split(state, "\n"), func(l string) bool {
		return strings.Contains(l, "vgpu_params") || strings.HasPrefix(l, "/sys/") && (strings.Contains(l, "/bind = ") || strings.Contains(l, "/unbind = ") || strings.Contains(l, "/create = "))
	})
}

// TestStartStop: a device is made whole, on record, and unmade without a trace.
func TestStartStop(t *testing.T) {
	forEach(t, func(t *testing.T, m *machine, h *Host, req Request, there func() bool, _ string) {
		before := m.state()
		dev, err := h.Start(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if !there() || dev.ID != req.ID || dev.Parent == "" {
			t.Errorf("%+v is there: %t\n%s", dev, there(), m.state())
		}
		r, err := h.Records.Device(req.ID)
		if err != nil || !r.Ours || r.Change != nil || r.Contract == nil || r.Contract.Type.Full() != req.Type || r.Contract.Host != "here" || r.Instance == 0 {
			t.Errorf("the record is %+v, %v", r, err)
		}
		if found, err := h.Repair(t.Context(), false); err != nil || len(found) > 0 {
			t.Errorf("Repair found %+v, %v in a device that is well", found, err)
		}
		if _, err := h.Start(t.Context(), req); err == nil {
			t.Error("it was started twice")
		}
		if again, err := h.Records.Device(req.ID); err != nil || !again.Ours || again.Change != nil {
			t.Errorf("starting it twice left the record %+v, %v", again, err)
		}
		if err := h.Stop(t.Context(), req.ID, StopOptions{}); err != nil {
			t.Fatal(err)
		}
		sameState(t, before, m.state())
	})
}

// TestContract: what was promised to a guest elsewhere goes with its device.
func TestContract(t *testing.T) {
	forEach(t, func(t *testing.T, m *machine, h *Host, req Request, _ func() bool, _ string) {
		req.Contract = &inventory.Contract{Type: inventory.TypeName{Namespace: "old", Name: "1"}, Host: "there", Recorded: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
		if _, err := h.Start(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		r, err := h.Records.Device(req.ID)
		if err != nil || r.Contract == nil || r.Contract.Host != "there" || r.Contract.Type.Full() != "old-1" {
			t.Errorf("the record is %+v, %v", r, err)
		}
		if err := h.Stop(t.Context(), req.ID, StopOptions{}); err != nil {
			t.Fatal(err)
		}
		before := m.state()
		both := inventory.Attributes{Values: map[string]inventory.Value{"a": inventory.Of("1")}, Unread: []string{"a"}}
		req.Contract = &inventory.Contract{TypeAttributes: both}
		if _, err := h.Start(t.Context(), req); err == nil {
			t.Error("a contract that no inventory could hold was taken")
		}
		sameState(t, before, m.state())
	})
}

// TestKilled dies before each write to the machine, of a start and of a stop:
// one repair later the device is there whole and on record, or not at all.
func TestKilled(t *testing.T) {
	for _, op := range []string{"start", "stop"} {
		for name, c := range requests {
			run(t, op+" "+name, func(t *testing.T) {
				for at := 1; ; at++ {
					m, h := newMachine(t)
					empty := m.state()
					if op == "stop" {
						if _, err := h.Start(t.Context(), c.req); err != nil {
							t.Fatal(err)
						}
					}
					survived := false
					killAt(m, at, func() {
						if op == "start" {
							_, _ = h.Start(t.Context(), c.req)
						} else {
							_ = h.Stop(t.Context(), c.req.ID, StopOptions{})
						}
						survived = true
					})
					if survived {
						if at < 2 {
							t.Fatal("it wrote nothing")
						}
						return
					}
					planned, err := h.Repair(t.Context(), true)
					if err != nil || len(planned) != 1 {
						t.Fatalf("killed before write %d: the dry run says %+v, %v", at, planned, err)
					}
					found, err := h.Repair(t.Context(), false)
					if err != nil || len(found) != 1 || found[0] != planned[0] {
						t.Fatalf("killed before write %d: repaired %+v, %v; the dry run said %+v", at, found, err, planned)
					}
					r, err := h.Records.Device(c.req.ID)
					switch {
					case err == nil && r.Ours && r.Change == nil && c.there(m):
					case err != nil:
						sameState(t, empty, m.state())
					default:
						t.Errorf("killed before write %d: the record is %+v, the device whole: %t\n%s", at, r, c.there(m), m.state())
					}
					if found, err := h.Repair(t.Context(), false); err != nil || len(found) > 0 {
						t.Errorf("killed before write %d: a second repair found %+v, %v", at, found, err)
					}
				}
			})
		}
	}
}

// killAt dies before the n-th write of do.
func killAt(m *machine, n int, do func()) {
	m.writes, m.killAt = 0, n
	defer func() {
		m.killAt = 0
		if r := recover(); r != nil && r != (killed{}) {
			panic(r)
		}
	}()
	do()
}

// TestRepair: what is surely Kindred's is undone; what may be another's, or is
// in use, is completed.
func TestRepair(t *testing.T) {
	for name, c := range map[string]struct {
		diesAt  int
		between func(m *machine)
		want    Action
		there   bool
	}{
		"before it was made":        {1, func(*machine) {}, Undone, false},
		"made by whoever":           {1, func(m *machine) { m.must(m.create("drv-a", uuid1)) }, Completed, true},
		"made by us":                {2, func(*machine) {}, Undone, false},
		"made by us, and in use":    {2, func(m *machine) { m.hold("7") }, Completed, true},
		"of another type by others": {1, func(m *machine) { m.must(m.create("drv-b", uuid1)) }, Undone, true},
		"before a boot":             {2, func(m *machine) { m.file("proc/sys/kernel/random/boot_id", "boot-2\n") }, Forgotten, true},
	} {
		run(t, name, func(t *testing.T) {
			m, h := newMachine(t)
			killAt(m, c.diesAt, func() { _, _ = h.Start(t.Context(), requests["mdev"].req) })
			c.between(m)
			found, err := h.Repair(t.Context(), false)
			if err != nil || len(found) != 1 || found[0].Action != c.want {
				t.Fatalf("%+v, %v; want %s", found, err, c.want)
			}
			if got := m.has("sys/devices/card/" + uuid1); got != c.there {
				t.Errorf("the device is there: %t", got)
			}
			if _, err := h.Records.Device(uuid1); (err == nil) != (c.want == Completed) {
				t.Errorf("its record: %v", err)
			}
		})
	}
}

// TestHeldUp: a function that is open and has left its driver holds the
// kernel's lock: nothing is written until it is closed.
func TestHeldUp(t *testing.T) { synctest.Test(t, testHeldUp) }

func testHeldUp(t *testing.T) {
	m, h := newMachine(t)
	start(t, h, "vf")
	release := m.hold("011")
	if err := h.Stop(t.Context(), vf, StopOptions{Force: true}); err == nil {
		t.Fatal("it was stopped")
	}
	m.writes = 0
	for range 2 {
		found, err := h.Repair(t.Context(), false)
		if err != nil || len(found) != 1 || found[0].Action != Left || !strings.Contains(found[0].Err.Error(), "process 71 (qemu) closes it") {
			t.Errorf("%+v, %v", found, err)
		}
	}
	if m.writes != 0 {
		t.Errorf("%d writes were begun that would hang", m.writes)
	}
	release()
	m.remove("sys/devices/pci/" + vf + "/vfio-dev")
	if found, err := h.Repair(t.Context(), false); err != nil || len(found) != 1 || found[0].Action != Completed || m.driver(vf) != "net" {
		t.Errorf("%+v, %v; its driver is %s", found, err, m.driver(vf))
	}
}

// TestPendingStop: a write that is yet to be done is not forgotten because the
// device looks as it was, and is in use.
func TestPendingStop(t *testing.T) {
	forEach(t, func(t *testing.T, m *machine, h *Host, req Request, there func() bool, group string) {
		before := m.state()
		if _, err := h.Start(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		release := m.hold(group)
		h.Patience = 20 * time.Millisecond
		h.Machine = slow{machine: m, takes: time.Second} // as if until it is closed
		err := h.Stop(t.Context(), req.ID, StopOptions{Force: true})
		if !heldUp(err) || !there() {
			t.Fatalf("%v; it is there: %t", err, there())
		}
		found, err := h.Repair(t.Context(), false)
		if err != nil || len(found) != 1 || found[0].Action != Left || !strings.Contains(found[0].Err.Error(), "process 71 (qemu) closes it") {
			t.Errorf("%+v, %v", found, err)
		}
		release()
		time.Sleep(1500 * time.Millisecond)
		h.Machine = m
		if found, err := h.Repair(t.Context(), false); err != nil || len(found) != 1 || found[0].Action != Completed {
			t.Errorf("%+v, %v", found, err)
		}
		sameState(t, before, m.state())
	})
}

// TestForcedAgain: a forced stop that was killed before its write can be forced
// again while the device is in use.
func TestForcedAgain(t *testing.T) { synctest.Test(t, testForcedAgain) }

func testForcedAgain(t *testing.T) {
	m, h := newMachine(t)
	start(t, h, "mdev")
	defer m.hold("7")()
	killAt(m, 1, func() { _ = h.Stop(t.Context(), uuid1, StopOptions{Force: true}) })
	if err := h.Stop(t.Context(), uuid1, StopOptions{}); !heldUp(err) || !strings.Contains(err.Error(), "process 71 (qemu)") {
		t.Errorf("not forced: %v", err)
	}
	if err := h.Stop(t.Context(), uuid1, StopOptions{Force: true}); !leftBus(err) || m.has("sys/bus/mdev/devices/"+uuid1) {
		t.Errorf("forced: %v", err)
	}
}

// slow is a machine whose drivers take their time.
type slow struct {
	*machine
	takes time.Duration
	begun func()
}

func (m slow) WriteApart(ctx context.Context, name, text string) error {
	if m.begun != nil {
		m.begun()
	}
	done := make(chan error, 1)
	go func() { time.Sleep(m.takes); done <- m.machine.WriteAttr(name, text) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", tree.ErrHeldUp, context.Cause(ctx))
	}
}

// TestSlow: a driver that takes longer than the patience is waited for, while
// nobody has the function open.
func TestSlow(t *testing.T) {
	forEach(t, func(t *testing.T, m *machine, h *Host, req Request, there func() bool, group string) {
		before := m.state()
		h.Patience = 20 * time.Millisecond
		h.Machine = slow{machine: m, takes: 5 * h.Patience}
		if _, err := h.Start(t.Context(), req); err != nil || !there() {
			t.Fatalf("%v; it is there: %t", err, there())
		}
		if err := h.Stop(t.Context(), req.ID, StopOptions{}); err != nil {
			t.Fatal(err)
		}
		sameState(t, before, m.state())
		if _, err := h.Start(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		// It is opened when it is being stopped: that one is not waited for.
		var release func()
		h.Machine = slow{machine: m, takes: 400 * time.Millisecond, begun: func() { release = m.hold(group) }}
		err := h.Stop(t.Context(), req.ID, StopOptions{})
		if !heldUp(err) || leftBus(err) || !strings.Contains(err.Error(), "process 71 (qemu)") {
			t.Errorf("%v", err)
		}
		if r, err := h.Records.Device(req.ID); err != nil || r.Change == nil {
			t.Errorf("what was begun is not on record: %+v, %v", r, err)
		}
		release()
		time.Sleep(800 * time.Millisecond) // and then it is done
		h.Machine = m
		if _, err := h.Repair(t.Context(), false); err != nil {
			t.Error(err)
		}
		sameState(t, before, m.state())
	})
}

// TestSlowStart: an interrupted start of a device that a driver takes its time
// for is undone; and one that no answer comes for stays on record.
func TestSlowStart(t *testing.T) { synctest.Test(t, testSlowStart) }

func testSlowStart(t *testing.T) {
	m, h := newMachine(t)
	before := m.state()
	h.Patience = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	h.Machine = slow{machine: m, takes: 2 * h.Patience, begun: cancel}
	if _, err := h.Start(ctx, requests["vf"].req); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	sameState(t, before, m.state())

	h.Machine = slow{machine: m, takes: 40 * h.Patience}
	_, err := h.Start(t.Context(), requests["vgpu"].req)
	if e, ok := errors.AsType[*Error](err); !ok || e.Reason != NotUndone || !strings.Contains(err.Error(), "kindred device repair") {
		t.Errorf("%v", err)
	}
	time.Sleep(50 * h.Patience)
	h.Machine = m
	if found, err := h.Repair(t.Context(), false); err != nil || len(found) != 1 || found[0].Action != Completed || !requests["vgpu"].there(m) {
		t.Errorf("%+v, %v", found, err)
	}
}

// TestNotTaken: a function that somebody has open stays with its driver, and
// one that cannot be given back stays as it is.
func TestNotTaken(t *testing.T) { synctest.Test(t, testNotTaken) }

func testNotTaken(t *testing.T) {
	m, h := newMachine(t)
	before := m.state()
	release := m.hold("011")
	_, err := h.Start(t.Context(), requests["vf"].req)
	if e, ok := errors.AsType[*Error](err); !ok || e.Reason != InUse {
		t.Errorf("%v", err)
	}
	sameState(t, before, m.state())
	release()

	start(t, h, "vf")
	before = m.state()
	m.refuse = func(string, string) error { return unix.EIO }
	if err := h.Stop(t.Context(), vf, StopOptions{}); !errors.Is(err, unix.EIO) {
		t.Errorf("%v", err)
	}
	m.refuse = nil
	sameState(t, before, m.state())
}

// TestOthersSettings: of what Kindred set, only what nobody changed since is
// set back.
func TestOthersSettings(t *testing.T) { synctest.Test(t, testOthersSettings) }

func testOthersSettings(t *testing.T) {
	m, h := newMachine(t)
	start(t, h, "vf")
	m.settings["mac"] = "52:54:00:ff:ff:ff"
	m.must(m.WriteAttr("sys/bus/pci/devices/"+vf+"/driver_override", "nvidia"))
	if err := h.Stop(t.Context(), vf, StopOptions{}); err == nil {
		t.Error("the driver it had does not match the override of somebody else: that is an error")
	}
	if m.settings["mac"] != "52:54:00:ff:ff:ff" && m.settings["vlan"] != "100:3" || m.text("sys/devices/pci/"+vf+"/driver_override") != "nvidia" {
		t.Errorf("settings %v\n%s", m.settings, m.state())
	}
	m.must(m.WriteAttr("sys/bus/pci/devices/"+vf+"/driver_override", "\n"))
	if _, err := h.Repair(t.Context(), false); err != nil {
		t.Error(err)
	}
	if m.settings["mac"] != "52:54:00:ff:ff:ff" || m.settings["vlan"] != "0" || m.settings["migratable"] != "disable" || m.driver(vf) != "net" {
		t.Errorf("settings %v, driver %s", m.settings, m.driver(vf))
	}
}

// TestRefused: a write that the kernel refuses undoes those before it.
func TestRefused(t *testing.T) {
	forEach(t, func(t *testing.T, m *machine, h *Host, req Request, _ func() bool, _ string) {
		before := m.state()
		for at := 1; ; at++ {
			n := 0
			m.refuse = func(string, string) error {
				if n++; n == at {
					return unix.EIO
				}
				return nil
			}
			_, err := h.Start(t.Context(), req)
			if n < at {
				if err != nil || at == 1 {
					t.Errorf("nothing was refused: %v after %d writes", err, n)
				}
				return
			}
			if !errors.Is(err, unix.EIO) || !strings.Contains(err.Error(), req.ID) {
				t.Errorf("write %d refused: %v", at, err)
			}
			sameState(t, before, m.state())
		}
	})
}

// TestAttributeLinks: an attribute is a file of the device, and not one that a
// link below it leads to.
func TestAttributeLinks(t *testing.T) { synctest.Test(t, testAttributeLinks) }

func testAttributeLinks(t *testing.T) {
	for _, name := range []string{"mdev_type/create", "vendor/bus/devices/" + uuid2 + "/remove", "out"} {
		m, h := newMachine(t)
		_, err := h.Start(t.Context(), Request{ID: uuid2, Parent: "card", Type: "drv-a"})
		m.must(err)
		m.refuse = func(written, _ string) error {
			if dir := "sys/devices/card/" + uuid1; m.has(dir+"/vendor") && !m.has(dir+"/out") {
				m.link(dir+"/vendor/bus", "../../../../bus/mdev")
				m.link(dir+"/out", "../"+uuid2+"/vendor/knob")
			}
			return nil
		}
		before := m.state()
		_, err = h.Start(t.Context(), Request{ID: uuid1, Parent: "card", Type: "drv-a", Attributes: []Attribute{{"vendor/knob", "1"}, {name, "1"}}})
		if e, ok := errors.AsType[*Error](err); !ok || e.Reason != BadValue {
			t.Errorf("%s: %v", name, err)
		}
		sameState(t, before, m.state())
	}
}

// TestGivenUp: what was given up before it began changes nothing.
func TestGivenUp(t *testing.T) {
	forEach(t, func(t *testing.T, m *machine, h *Host, req Request, there func() bool, _ string) {
		_, err := h.Start(t.Context(), req)
		m.must(err)
		before := m.state()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := h.Stop(ctx, req.ID, StopOptions{}); !errors.Is(err, context.Canceled) || !there() {
			t.Errorf("%v; it is there: %t", err, there())
		}
		sameState(t, before, m.state())
	})
}

// TestInUse: a device that somebody has open is left as it is, with his name.
func TestInUse(t *testing.T) {
	forEach(t, func(t *testing.T, m *machine, h *Host, req Request, there func() bool, group string) {
		before := m.state()
		if _, err := h.Start(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		release := m.hold(group)
		err := h.Stop(t.Context(), req.ID, StopOptions{})
		e, isOurs := errors.AsType[*Error](err)
		if !isOurs || e.Reason != InUse || !strings.Contains(err.Error(), "process 71 (qemu)") || !there() {
			t.Errorf("%v; it is there: %t", err, there())
		}
		if found, err := h.Repair(t.Context(), false); err != nil || len(found) > 0 {
			t.Errorf("that left something to repair: %+v, %v", found, err)
		}
		if req.Kind == inventory.VGPU {
			return // the driver decides about force
		}
		err = h.Stop(t.Context(), req.ID, StopOptions{Force: true})
		if err == nil || !strings.Contains(err.Error(), "process 71 (qemu)") {
			t.Errorf("forced: %v", err)
		}
		release()
		if req.Kind == inventory.Mdev {
			m.gone(req.ID) // the kernel does
		} else {
			m.remove("sys/devices/pci/" + req.ID + "/vfio-dev")
		}
		if _, err := h.Repair(t.Context(), false); err != nil {
			t.Error(err)
		}
		sameState(t, before, m.state())
	})
}

// TestTaken: what somebody else has taken since is not touched.
func TestTaken(t *testing.T) {
	run(t, "a VF's type", func(t *testing.T) {
		for _, other := range []string{"1149", "1148"} {
			m, h := newMachine(t)
			start(t, h, "vgpu")
			name := "sys/bus/pci/devices/" + gpu + "/nvidia/current_vgpu_type"
			m.must(m.WriteAttr(name, "0"))
			m.must(m.WriteAttr(name, other)) // also when it is the same type again
			err := h.Stop(t.Context(), gpu, StopOptions{Force: true})
			if e, ok := errors.AsType[*Error](err); !ok || e.Reason != NotOurs {
				t.Errorf("%v", err)
			}
			if got := m.text(name); got != other {
				t.Errorf("the VF of somebody else has the type %s, want %s", got, other)
			}
		}
	})
	run(t, "a VF's driver", func(t *testing.T) {
		m, h := newMachine(t)
		start(t, h, "vf")
		m.must(m.WriteAttr("sys/bus/pci/drivers/var_vfio_pci/unbind", vf))
		m.must(m.WriteAttr("sys/bus/pci/devices/"+vf+"/driver_override", "nvidia"))
		m.must(m.WriteAttr("sys/bus/pci/drivers/nvidia/bind", vf))
		state := m.state()
		if err := h.Stop(t.Context(), vf, StopOptions{}); err == nil {
			t.Error("it was stopped")
		}
		if m.driver(vf) != "nvidia" || m.text("sys/devices/pci/"+vf+"/driver_override") != "nvidia" {
			t.Errorf("before\n%safter\n%s", state, m.state())
		}
	})
	run(t, "a VF's driver, by the same one, while it was being stopped", func(t *testing.T) {
		m, h := newMachine(t)
		start(t, h, "vf")
		r, err := h.Records.Device(vf)
		m.must(err)
		r.Change = &record.Change{Op: record.Stop, PID: 1, Made: true}
		m.must(h.Records.Put(vf, r)) // and then it was killed
		m.must(m.WriteAttr("sys/bus/pci/drivers/var_vfio_pci/unbind", vf))
		m.must(m.WriteAttr("sys/bus/pci/drivers/var_vfio_pci/bind", vf))
		found, err := h.Repair(t.Context(), false)
		if err != nil || len(found) != 1 || found[0].Err != nil {
			t.Errorf("%+v, %v", found, err)
		}
		if m.driver(vf) != "var_vfio_pci" || m.settings["mac"] != "52:54:00:12:34:56" || m.text("sys/devices/pci/"+vf+"/driver_override") != "var_vfio_pci" {
			t.Errorf("what somebody else uses was changed: %v\n%s", m.settings, m.state())
		}
	})
	run(t, "an mdev's name", func(t *testing.T) {
		m, h := newMachine(t)
		start(t, h, "mdev")
		m.gone(uuid1)
		m.must(m.create("drv-b", uuid1))
		found, err := h.Repair(t.Context(), false)
		if err != nil || len(found) != 1 || found[0].Action != Forgotten || !m.has("sys/devices/card/"+uuid1) {
			t.Errorf("%+v, %v; the device of somebody else is there: %t", found, err, m.has("sys/devices/card/"+uuid1))
		}
	})
	run(t, "a UUID while starting", func(t *testing.T) {
		m, h := newMachine(t)
		m.refuse = func(name, text string) error {
			if strings.HasSuffix(name, "/create") {
				m.must(m.create("drv-a", text)) // by somebody who was a little faster
			}
			return nil
		}
		_, err := h.Start(t.Context(), requests["mdev"].req)
		if e, ok := errors.AsType[*mdev.Error](err); !ok || e.Reason != mdev.Taken {
			t.Errorf("%v", err)
		}
		if !m.has("sys/devices/card/" + uuid1) {
			t.Error("his device was removed")
		}
		if _, err := h.Records.Device(uuid1); err == nil {
			t.Error("his device is on record")
		}
	})
}

func start(t *testing.T, h *Host, name string) {
	t.Helper()
	if _, err := h.Start(t.Context(), requests[name].req); err != nil {
		t.Fatal(err)
	}
}

// TestFree: without an address the first VF is taken that nobody has.
func TestFree(t *testing.T) { synctest.Test(t, testFree) }

func testFree(t *testing.T) {
	for want, req := range map[string]Request{
		bare: {Parent: "0000:01:00.0", Type: "var_vfio_pci-1234:0010"}, // the first one has a driver
		gpu:  {Parent: "0000:02:00.0", Type: "nvidia-1148"},
	} {
		_, h := newMachine(t)
		if dev, err := h.Start(t.Context(), req); err != nil || dev.ID != want {
			t.Errorf("%+v, %v; want %s", dev, err, want)
		}
		_, err := h.Start(t.Context(), req)
		if e, ok := errors.AsType[*Error](err); !ok || e.Reason != NoRoom || !strings.Contains(err.Error(), "no virtual function of "+req.Parent+" is free") {
			t.Errorf("when all are taken: %v", err)
		}
	}
}

// TestFreeLocked: a VF that is being changed holds nobody up while another is
// free, and is waited for otherwise.
func TestFreeLocked(t *testing.T) { synctest.Test(t, testFreeLocked) }

func testFreeLocked(t *testing.T) {
	m, h := newMachine(t)
	m.remove("sys/devices/pci/" + vf + "/driver") // both are free
	m.file("sys/devices/pci/"+vf+"/driver_override", "(null)\n")
	unlock, err := h.Records.TryLock(vf)
	m.must(err)
	req := Request{Parent: "0000:01:00.0", Type: "var_vfio_pci-1234:0010"}
	begun := time.Now()
	dev, err := h.Start(t.Context(), req)
	if took := time.Since(begun); err != nil || dev.ID != bare || took > lockWait/3 {
		t.Errorf("%+v, %v after %v; want %s", dev, err, took, bare)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := h.Start(ctx, req); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("given up: %v", err)
	}
	time.AfterFunc(200*time.Millisecond, unlock)
	if dev, err := h.Start(t.Context(), req); err != nil || dev.ID != vf {
		t.Errorf("%+v, %v; want %s", dev, err, vf)
	}
}

// TestErrors says why, for what cannot be started.
func TestErrors(t *testing.T) {
	for name, c := range map[string]struct {
		req    Request
		reason Reason
		text   string
	}{
		"another kind":         {Request{Kind: inventory.Function, ID: vf}, WrongType, "kind"},
		"no function":          {Request{Kind: inventory.VF, ID: "0000:09:00.0", Type: "var_vfio_pci-1234:0010"}, NoDevice, "0000:09:00.0"},
		"a path":               {Request{Kind: inventory.VF, ID: "../0000:01:00.1", Type: "var_vfio_pci-1234:0010"}, NoDevice, ""},
		"a physical function":  {Request{Kind: inventory.VF, ID: "0000:01:00.0", Type: "var_vfio_pci-1234:0010"}, WrongType, "no virtual function"},
		"another's":            {Request{Kind: inventory.VF, ID: vf, Parent: "0000:02:00.0", Type: "var_vfio_pci-1234:0010"}, WrongParent, "0000:01:00.0"},
		"other ids":            {Request{Kind: inventory.VF, ID: vf, Type: "var_vfio_pci-1234:0011"}, WrongType, "var_vfio_pci-1234:0010"},
		"no ids":               {Request{Kind: inventory.VF, ID: vf, Type: "var_vfio_pci"}, WrongType, "<driver>-"},
		"no driver":            {Request{Kind: inventory.VF, ID: vf, Type: "mlx5_vfio_pci-1234:0010"}, NoDriver, "modprobe mlx5_vfio_pci"},
		"a driver that it has": {Request{Kind: inventory.VF, ID: vf, Type: "net-1234:0010"}, Started, "net"},
		"an unknown attribute": {Request{Kind: inventory.VF, ID: vf, Type: "var_vfio_pci-1234:0010", Attributes: []Attribute{{"speed", "1"}}}, BadValue, "mac, vlan and migratable"},
		"a group's MAC":        {Request{Kind: inventory.VF, ID: vf, Type: "var_vfio_pci-1234:0010", Attributes: []Attribute{{"mac", "01:00:5e:00:00:01"}}}, BadValue, "01:00"},
		"a VLAN too high":      {Request{Kind: inventory.VF, ID: vf, Type: "var_vfio_pci-1234:0010", Attributes: []Attribute{{"vlan", "4095"}}}, BadValue, "4094"},
		"maybe migratable":     {Request{Kind: inventory.VF, ID: vf, Type: "var_vfio_pci-1234:0010", Attributes: []Attribute{{"migratable", "yes"}}}, BadValue, "enable or disable"},
		"no vGPU function":     {Request{Kind: inventory.VGPU, ID: vf, Type: "nvidia-1148"}, WrongType, "sriov-manage"},
		"no number":            {Request{Kind: inventory.VGPU, ID: gpu, Type: "nvidia-L40S"}, WrongType, "nvidia-<number>"},
		"a type it cannot be":  {Request{Kind: inventory.VGPU, ID: gpu, Type: "nvidia-7"}, WrongType, "nvidia-1148 (NVIDIA L40S-2Q)"},
		"remove as attribute":  {Request{Kind: inventory.Mdev, ID: uuid1, Parent: "card", Type: "drv-a", Attributes: []Attribute{{"remove", "1"}}}, BadValue, "remove"},
		"a path as attribute":  {Request{Kind: inventory.Mdev, ID: uuid1, Parent: "card", Type: "drv-a", Attributes: []Attribute{{"../x", "1"}}}, BadValue, "../x"},
		"no such attribute":    {Request{Kind: inventory.Mdev, ID: uuid1, Parent: "card", Type: "drv-a", Attributes: []Attribute{{"none", "1"}}}, BadValue, "no attribute none"},
		"a value it refuses":   {Request{Kind: inventory.Mdev, ID: uuid1, Parent: "card", Type: "drv-a", Attributes: []Attribute{{"vendor/knob", "bad"}}}, Failed, "vendor/knob=bad"},
	} {
		run(t, name, func(t *testing.T) {
			m, h := newMachine(t)
			before := m.state()
			_, err := h.Start(t.Context(), c.req)
			if e, ok := errors.AsType[*Error](err); !ok || e.Reason != c.reason || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want %s with %q", err, c.reason, c.text)
			}
			sameState(t, before, m.state())
		})
	}
	m, h := newMachine(t)
	m.file("sys/devices/pci/"+gpu+"/nvidia/creatable_vgpu_types", "ID    : vGPU Name\n")
	if _, err := h.Start(t.Context(), requests["vgpu"].req); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("on a full card: %v", err)
	}
	if err := h.Stop(t.Context(), vf, StopOptions{}); err == nil || m.driver(vf) != "net" {
		t.Errorf("a VF that was not started: %v", err)
	}
	if err := h.Stop(t.Context(), uuid2, StopOptions{}); err == nil {
		t.Error("an mdev that is not there was stopped")
	}
	m.must(m.create("drv-a", uuid2))
	if err := h.Stop(t.Context(), strings.ToUpper(uuid2), StopOptions{}); err != nil || m.has("sys/devices/card/"+uuid2) {
		t.Errorf("an mdev of somebody else, asked for by name: %v", err)
	}
}

// TestLocked: one device is changed by one at a time, others meanwhile.
func TestLocked(t *testing.T) { synctest.Test(t, testLocked) }

func testLocked(t *testing.T) {
	m, h := newMachine(t)
	unlock, err := h.Records.TryLock(uuid1)
	m.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = h.Start(ctx, requests["mdev"].req)
	if e, ok := errors.AsType[*Error](err); !ok || e.Reason != Locked || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	m.must(h.Records.Put(uuid1, record.Device{Kind: inventory.Mdev, Change: &record.Change{Op: record.Start, PID: 71}}))
	if found, err := h.Repair(t.Context(), false); err != nil || len(found) > 0 {
		t.Errorf("a start that is under way was repaired: %+v, %v", found, err)
	}
	req := requests["mdev"].req
	req.ID = uuid2
	if _, err := h.Start(t.Context(), req); err != nil {
		t.Errorf("another device waited: %v", err)
	}
	unlock()
	if _, err := h.Start(t.Context(), requests["mdev"].req); err != nil {
		t.Errorf("after that, what was left is no hindrance: %v", err)
	}
}

// TestConcurrent: of many at once, as many succeed as there are places.
func TestConcurrent(t *testing.T) { synctest.Test(t, testConcurrent) }

func testConcurrent(t *testing.T) {
	m, h := newMachine(t)
	m.places = 24
	errs := make(chan error)
	for i := range 64 {
		req := Request{Kind: inventory.Mdev, Parent: "card", Type: "drv-a", ID: fmt.Sprintf("83b8f4f2-509f-382f-3c1e-e6bfe0fa2%03d", i)}
		go func() { _, err := h.Start(t.Context(), req); errs <- err }()
	}
	full := 0
	for range 64 {
		err := <-errs
		if err == nil {
			continue
		}
		if e, ok := errors.AsType[*mdev.Error](err); !ok || e.Reason != mdev.NoRoom {
			t.Errorf("%v", err)
		}
		full++
	}
	ids, err := h.Records.List()
	if full != 40 || err != nil || len(ids) != 24 || m.places != 0 {
		t.Errorf("%d found no room, %d are on record (%v), %d places are left", full, len(ids), err, m.places)
	}
}

// TestBooted: what was made before the machine was booted is forgotten.
func TestBooted(t *testing.T) { synctest.Test(t, testBooted) }

func testBooted(t *testing.T) {
	m, h := newMachine(t)
	start(t, h, "mdev")
	m.gone(uuid1)
	m.file("proc/sys/kernel/random/boot_id", "boot-2\n")
	m.must(m.create("drv-a", uuid1))
	found, err := h.Repair(t.Context(), false)
	if err != nil || len(found) != 1 || found[0].Action != Forgotten {
		t.Errorf("%+v, %v", found, err)
	}
	if !m.has("sys/devices/card/" + uuid1) {
		t.Error("the device of this boot was removed")
	}
}
