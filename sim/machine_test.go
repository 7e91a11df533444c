// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"kindred/compat"
	"kindred/fleet"
	"kindred/host"
	"kindred/host/mdev"
	"kindred/host/tree"
	"kindred/inventory"
)

const typeDir = "sys/class/mdev_bus/sim0/mdev_supported_types/ksim-V4"

func machine(t testing.TB, build string) *Machine {
	t.Helper()
	list, err := Fleet(build)
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// What host finds on a machine is what the machine is.
func TestDiscovery(t *testing.T) {
	m := machine(t, "gen9")
	d := create(t, m, "V4", 1)
	inv := discover(t, m)
	data, err := inventory.Encode(inv)
	if err != nil {
		t.Fatal(err)
	}
	if inv, err = inventory.Decode(data); err != nil {
		t.Fatal(err)
	}
	if inv.Origin != inventory.FromSimulator || inv.Host.Name != "gen9" {
		t.Errorf("%s from %s", inv.Host.Name, inv.Origin)
	}
	p := inv.Parent("sim0")
	if p == nil || p.Namespace != Namespace || len(p.Types) != 2 || p.Types[0].Available == nil || *p.Types[0].Available != 3 {
		t.Fatalf("%+v", p)
	}
	typ := p.Type(inventory.TypeName{Namespace: Namespace, Name: "V5"})
	if typ == nil || typ.Attributes.Values["features"] != inventory.Of("fill,hash,mix,swap") || typ.DeviceAPI != inventory.Of("vfio-pci") {
		t.Errorf("%+v", typ)
	}
	if mod := inv.Module("ksim_gen9"); mod == nil || mod.BuildID != inventory.Of(idOf("ksim_gen9", "")) {
		t.Errorf("%+v", mod)
	}
	dev := inv.Device(UUID(t.Name(), 1))
	if dev == nil || dev.InUse != inventory.Yes || dev.Type.Name != "V4" || dev.Migration == nil || dev.Migration.Can != inventory.Yes || dev.Attributes.Values["weight"] != inventory.Of("1") {
		t.Fatalf("%+v", dev)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if dev := discover(t, m).Device(dev.ID); dev.InUse != inventory.No {
		t.Errorf("closed, and in use: %s", dev.InUse)
	}
	none := machine(t, "nomig")
	create(t, none, "V4", 1)
	if dev := discover(t, none).Devices[0]; dev.Migration == nil || dev.Migration.Can != inventory.No {
		t.Errorf("%+v", dev.Migration)
	}
}

// The same names make the same machine, to the byte.
func TestDeterminism(t *testing.T) {
	read := func() string {
		m := machine(t, "gen9")
		for i := range 3 {
			if err := m.WriteAttr(typeDir+"/create", UUID("same", i)); err != nil {
				t.Fatal(err)
			}
		}
		inv := discover(t, m)
		inv.Taken = time.Time{}
		data, err := inventory.Encode(inv)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if one, other := read(), read(); one != other {
		t.Error("two machines differ")
	}
	if UUID("a", 1) == UUID("a", 2) || UUID("a", 1) == UUID("b", 1) || !isUUID(UUID("a", 1)) {
		t.Error(UUID("a", 1))
	}
}

// What create and remove answer (mdev_sysfs.c, mdev_core.c).
func TestErrors(t *testing.T) {
	m := machine(t, "gen9")
	first := UUID("first", 0)
	for _, c := range []struct {
		name, text string
		err        error
	}{
		{typeDir + "/create", "short", unix.EINVAL},
		{typeDir + "/create", strings.Repeat("x", 36), unix.EINVAL},
		{typeDir + "/create", first + "\n\n", unix.EINVAL},
		{typeDir + "/create", strings.ToUpper(first) + "\n", nil},
		{typeDir + "/create", first, unix.EEXIST},
		{"sys/class/mdev_bus/sim0/mdev_supported_types/ksim-V5/create", first, unix.EEXIST},
		{typeDir + "/create", UUID("x", 1), nil},
		{typeDir + "/create", UUID("x", 2), nil},
		{"sys/class/mdev_bus/sim0/mdev_supported_types/ksim-V5/create", UUID("x", 3), nil},
		{typeDir + "/create", UUID("x", 4), unix.ENOSPC},
		{"sys/class/mdev_bus/sim0/mdev_supported_types/ksim-V5/create", UUID("x", 4), unix.ENOSPC},
		{typeDir + "/name", "x", unix.EACCES},
		{typeDir + "/nothing", "x", unix.ENOENT},
		{typeDir, "x", unix.EISDIR},
		{"sys/bus/mdev/devices/" + first + "/remove", "x", unix.EINVAL},
		{"sys/bus/mdev/devices/" + first + "/remove", "0", nil},
		{"sys/bus/mdev/devices/" + first + "/weight", "7", nil},
		{"sys/bus/mdev/devices/" + first + "/weight", "", unix.EINVAL},
		{"sys/bus/mdev/devices/" + first + "/remove", "1\n", nil},
		{"sys/bus/mdev/devices/" + first + "/remove", "1", unix.ENOENT},
		{typeDir + "/create", first, nil},
	} {
		err := m.WriteAttr(c.name, c.text)
		if !errors.Is(err, c.err) || c.err == nil && err != nil {
			t.Errorf("%q to %s: %v, want %v", c.text, c.name, err, c.err)
		}
		if p, ok := errors.AsType[*fs.PathError](err); err != nil && (!ok || p.Path != c.name) {
			t.Errorf("%#v", err)
		}
	}
	if _, err := m.ReadAttr(typeDir + "/create"); !errors.Is(err, unix.EACCES) {
		t.Error(err)
	}
	if text, err := tree.Text(m, typeDir+"/available_instances"); text != "0" || err != nil {
		t.Error(text, err)
	}
	if _, err := m.Open(UUID("nobody", 1)); !errors.Is(err, unix.ENODEV) {
		t.Error(err)
	}
}

// host/mdev's own create and remove work on it.
func TestChange(t *testing.T) {
	m := machine(t, "gen8")
	id := UUID("change", 1)
	if err := mdev.Create(m, "sim0", "ksim-V4", id); err != nil {
		t.Fatal(err)
	}
	if err := mdev.Create(m, "sim0", "ksim-V4", id); err == nil {
		t.Error("created twice")
	}
	d, err := m.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	var e *mdev.Error
	if err := mdev.Remove(context.Background(), m, id, mdev.RemoveOptions{}); !errors.As(err, &e) || e.Reason != mdev.InUse || len(e.Holders) != 1 || e.Holders[0].Name != "simulated-vm" {
		t.Errorf("%+v", err)
	}
	d.Close()
	before, err := m.Inode("sys/bus/mdev/devices/" + id)
	if err != nil || before == 0 {
		t.Error(before, err)
	}
	if err := mdev.Remove(context.Background(), m, id, mdev.RemoveOptions{}); err != nil {
		t.Error(err)
	}
	if err := mdev.Create(m, "sim0", "ksim-V4", id); err != nil {
		t.Fatal(err)
	}
	if after, err := m.Inode("sys/bus/mdev/devices/" + id); err != nil || after == before {
		t.Errorf("another device has the same number %d: %v", after, err)
	}
	removeID(t, m, id)
	if inv := discover(t, m); len(inv.Devices) != 0 || *inv.Parents[0].Types[0].Available != 4 {
		t.Errorf("%+v", inv)
	}
}

// A removal waits for who has the device open; meanwhile it is off the bus, its
// UUID is taken, and its room too.
func TestRemoveWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := machine(t, "gen8")
		id := UUID("waits", 1)
		d := createID(t, m, "V4", id)
		work(t, d, 1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		remove := "sys/bus/mdev/devices/" + id + "/remove"
		if err := m.WriteApart(ctx, remove, "1"); !errors.Is(err, tree.ErrHeldUp) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if err := m.WriteAttr(remove, "1"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("again: %v", err)
		}
		if err := m.WriteAttr(typeDir+"/create", id); !errors.Is(err, unix.EEXIST) {
			t.Errorf("the same UUID: %v", err)
		}
		if text, _ := tree.Text(m, typeDir+"/available_instances"); text != "3" {
			t.Errorf("%s available", text)
		}
		if _, err := d.State(); err != nil {
			t.Errorf("the open device: %v", err)
		}
		if _, err := m.Open(id); !errors.Is(err, unix.ENODEV) {
			t.Errorf("opened: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if text, _ := tree.Text(m, typeDir+"/available_instances"); text != "4" {
			t.Errorf("%s available", text)
		}
		if _, err := m.Mode("sys/devices/sim/sim0/" + id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("still there: %v", err)
		}
	})
}

// Many at once: nothing is given twice, nothing is lost.
func TestConcurrent(t *testing.T) {
	d, err := Build("gen9")
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(Setup{Name: "many", Parents: []Parent{{Name: "sim0", Driver: d, Units: 40}, {Name: "sim1", Driver: d, Units: 40}}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				id := UUID("many", i*100+j)
				dir := fmt.Sprintf("sys/class/mdev_bus/sim%d/mdev_supported_types/ksim-V%d/create", j%2, 4+i%2)
				if err := m.WriteAttr(dir, id); errors.Is(err, unix.ENOSPC) {
					continue
				} else if err != nil {
					t.Error(err)
					continue
				}
				dev, err := m.Open(id)
				if err != nil {
					t.Error(err)
					continue
				}
				// Others come and go meanwhile, as on a real host.
				if _, err := host.Simulated(m).Inventory(context.Background(), host.Options{}); err != nil {
					t.Error(err)
				}
				if err := Work(dev, 1, 1); err != nil {
					t.Error(err)
				}
				dev.Close()
				removeID(t, m, id)
			}
		})
	}
	wg.Wait()
	inv := discover(t, m)
	if len(inv.Devices) != 0 || *inv.Parents[0].Types[0].Available != 10 || *inv.Parents[1].Types[1].Available != 10 {
		t.Errorf("%d devices left, %+v", len(inv.Devices), inv.Parents)
	}
	if entries, err := m.ReadDir("proc/1000/fd"); err != nil || len(entries) != 0 {
		t.Errorf("still open: %v, %v", entries, err)
	}
}

func TestNewRefuses(t *testing.T) {
	a, err := Build("gen8")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Build("gen9")
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]Setup{
		"no name":             {},
		"a parent of no name": {Name: "x", Parents: []Parent{{Driver: a}}},
		"no driver":           {Name: "x", Parents: []Parent{{Name: "p"}}},
		"no types":            {Name: "x", Parents: []Parent{{Name: "p", Driver: &Driver{Namespace: "n"}}}},
		"two of a name":       {Name: "x", Parents: []Parent{{Name: "p", Driver: a}, {Name: "p", Driver: a}}},
		"two drivers":         {Name: "x", Parents: []Parent{{Name: "p", Driver: a}, {Name: "q", Driver: b}}},
	} {
		if _, err := New(s); err == nil {
			t.Errorf("taken: %s", name)
		}
	}
	if _, err := Build("none"); err == nil {
		t.Error("a build that is none")
	}
}

// The fleet's answer for a device of the old generation says that it is
// simulated, and names where it can go.
func TestTargets(t *testing.T) {
	list, err := Fleet("gen8", "gen9", "rel20", "anything")
	if err != nil {
		t.Fatal(err)
	}
	create(t, list[0], "V4", 1)
	catalog, err := compat.ParseCatalog("ksim.yaml", Catalog)
	if err != nil {
		t.Fatal(err)
	}
	catalogs, err := compat.NewCatalogs(nil, []*compat.Catalog{catalog})
	if err != nil {
		t.Fatal(err)
	}
	var invs []*inventory.Inventory
	for _, m := range list {
		invs = append(invs, discover(t, m))
	}
	f, err := fleet.New(compat.NewEngine(catalogs, nil), invs)
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Source("gen8/" + UUID(t.Name(), 1))
	if err != nil {
		t.Fatal(err)
	}
	answer := f.Targets(s, fleet.Options{})
	if !answer.Simulated || answer.Source != inventory.FromSimulator {
		t.Error("the answer does not say that it is simulated")
	}
	want := map[string]fleet.Group{"gen9": fleet.Ready, "rel20": fleet.NotAllowed, "anything": fleet.NotAllowed}
	for _, target := range answer.Hosts {
		if g, ok := want[target.Host]; ok && g != target.Group {
			t.Errorf("%s is %s, want %s: %+v", target.Host, target.Group, g, target.Verdict)
		}
		delete(want, target.Host)
	}
	if len(want) > 0 {
		t.Errorf("not told of: %v", want)
	}
}
