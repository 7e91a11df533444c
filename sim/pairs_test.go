// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kindred/compat"
	"kindred/host"
	"kindred/host/vfio"
	"kindred/inventory"
	"kindred/stream"
)

var update = flag.Bool("update", false, "write the table of what each build takes")

// discover reads a machine with host's own code.
func discover(t testing.TB, m *Machine) *inventory.Inventory {
	t.Helper()
	inv, err := host.Simulated(m).Inventory(context.Background(), host.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Warnings) > 0 {
		t.Errorf("%s: %v", inv.Host.Name, inv.Warnings)
	}
	return inv
}

// move records a device's state in a container and loads it from there.
func move(t testing.TB, from *Machine, id string, source, target vfio.Device) error {
	t.Helper()
	inv, err := discover(t, from).Extract(id)
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	w, err := stream.NewWriter(&file, &stream.Header{Made: time.Unix(1, 0), By: "test", Inventory: inv})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vfio.Save(context.Background(), source, w, vfio.SaveOptions{}); err != nil {
		return err
	}
	if err := w.Close(nil); err != nil {
		t.Fatal(err)
	}
	r, err := stream.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Header().Simulated() {
		t.Error("the stream does not say that it is simulated")
	}
	if _, err := vfio.Load(context.Background(), target, r, vfio.LoadOptions{}); err != nil {
		return err
	}
	_, err = target.SetState(vfio.StateRunning)
	return err
}

// truth is what each build makes of each type's stream, found by TestPairs;
// "works": the guest sees the same, "corrupts": something else.
const truthFile = "testdata/truth.txt"

// TestPairs moves a device that worked from every build and type to every
// other, and holds what came of it against the table (-update writes it), and
// the engine against both: what it calls compatible works.
func TestPairs(t *testing.T) {
	catalog, err := compat.ParseCatalog("ksim.yaml", Catalog)
	if err != nil {
		t.Fatal(err)
	}
	catalogs, err := compat.NewCatalogs(compat.BuiltIn(), []*compat.Catalog{catalog})
	if err != nil {
		t.Fatal(err)
	}
	engine := compat.NewEngine(catalogs, nil)
	type side struct {
		build, typ string
		m          *Machine
	}
	var sides []side
	for _, build := range BuildNames() {
		list, err := Fleet(build)
		if err != nil {
			t.Fatal(err)
		}
		sides = append(sides, side{build, "V4", list[0]})
		if build == "gen9" {
			sides = append(sides, side{build, "V5", list[0]})
		}
	}
	var table strings.Builder
	count := make(map[string]int)
	for i, from := range sides {
		for j, to := range sides {
			id := UUID("source", i*100+j)
			source, target := createID(t, from.m, from.typ, id), createID(t, to.m, to.typ, UUID("target", i*100+j))
			work(t, source, 4)
			want := seen(t, source)
			truth := "works"
			if err := move(t, from.m, id, source, target); err != nil {
				e, ok := err.(*vfio.Error)
				if !ok {
					t.Fatalf("%s/%s to %s/%s: %v", from.build, from.typ, to.build, to.typ, err)
				}
				truth = fmt.Sprint(e.Kind, " at ", e.Step, ": ", e.Errno())
			} else if seen(t, target) != want {
				truth = "corrupts"
			}
			fmt.Fprintf(&table, "%s/%s to %s/%s: %s\n", from.build, from.typ, to.build, to.typ, truth)
			count[truth]++

			inv := discover(t, from.m)
			s := engine.Source(inv, inv.Device(id))
			for _, o := range engine.Offers(discover(t, to.m)) {
				if o.Type().Name != to.typ {
					continue
				}
				v := engine.Check(s, o)
				count[v.Outcome.String()]++
				if v.Outcome == compat.Compatible && truth != "works" {
					t.Errorf("%s/%s to %s/%s is called compatible, and it %s: %+v", from.build, from.typ, to.build, to.typ, truth, v.Findings)
				}
			}
			source.Close()
			target.Close()
			removeID(t, from.m, id)
			removeID(t, to.m, UUID("target", i*100+j))
		}
	}
	if *update {
		if err := os.WriteFile(truthFile, []byte(table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(truthFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != table.String() {
		t.Errorf("the table is not that of %s:\n%s", truthFile, table.String())
	}
	t.Log(count)
	for _, answer := range []string{"compatible", "incompatible", "unknown", "works", "corrupts"} {
		if count[answer] == 0 {
			t.Errorf("nothing is %s", answer)
		}
	}
}

func createID(t testing.TB, m *Machine, typ, id string) vfio.Device {
	t.Helper()
	if err := m.WriteAttr("sys/class/mdev_bus/sim0/mdev_supported_types/ksim-"+typ+"/create", id); err != nil {
		t.Fatal(err)
	}
	d, err := m.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func removeID(t testing.TB, m *Machine, id string) {
	t.Helper()
	if err := m.WriteAttr("sys/bus/mdev/devices/"+id+"/remove", "1"); err != nil {
		t.Fatal(err)
	}
}

// TestEveryFault lets each operation of a transfer fail in turn. Whatever
// fails, there is an error, the source goes on as it was, and the target does
// not run with part of a state.
func TestEveryFault(t *testing.T) {
	transfer := func(t *testing.T, faultAt int) (total int) {
		list, err := Fleet("gen8", "gen9")
		if err != nil {
			t.Fatal(err)
		}
		source, target := create(t, list[0], "V4", 1), create(t, list[1], "V4", 2)
		work(t, source, 3)
		want, fresh := seen(t, source), seen(t, target)
		n := 0
		for _, m := range list {
			if faultAt > n {
				m.Faults.Set(Fault{N: faultAt - n, As: unix.EIO})
			} else {
				m.Faults.Set()
			}
			n += 1000 // no transfer has as many on one side
		}
		var file bytes.Buffer
		_, err = vfio.Save(context.Background(), source, &file, vfio.SaveOptions{})
		if err == nil {
			_, err = vfio.Load(context.Background(), target, &file, vfio.LoadOptions{})
		}
		saving, loading := list[0].Faults.Total(), list[1].Faults.Total()
		for _, m := range list {
			m.Faults.Set()
		}
		if err != nil {
			if _, ok := err.(*vfio.Error); !ok {
				t.Errorf("%T: %v", err, err)
			}
		}
		if seen(t, source) != want {
			t.Errorf("fault %d: the source lost its state: %v", faultAt, err)
		}
		if got := seen(t, target); got != fresh && got != want {
			t.Errorf("fault %d: the target has part of a state: %v", faultAt, err)
		} else if got == want && err != nil && faultAt > 1000 {
			if s, _ := target.State(); s == sRunning {
				t.Errorf("fault %d: the target runs: %v", faultAt, err)
			}
		}
		if faultAt == 0 && err != nil {
			t.Fatal(err)
		}
		return saving<<16 | loading
	}
	whole := transfer(t, 0)
	saving, loading := whole>>16, whole&0xffff
	if saving < 10 || loading < 5 || saving > 1000 || loading > 1000 {
		t.Fatalf("a transfer has %d and %d operations", saving, loading)
	}
	for n := 1; n <= saving; n++ {
		transfer(t, n)
	}
	for n := 1; n <= loading; n++ {
		transfer(t, 1000+n)
	}
}

// A stream that a source ends early, or that breaks at a byte on either side:
// no target takes it, but one that takes what is cut.
func TestCutAtEveryBorder(t *testing.T) {
	for _, at := range []uint64{0, 1, imageHeader - 1, imageHeader, imageHeader + 1, imageFront, imageFront + 5, 1 << 19} {
		for _, as := range []unix.Errno{0, unix.EIO} {
			source, m := openOn(t, "gen8", "V4")
			work(t, source, 3)
			m.Faults.Set(Fault{Op: OpRead, At: at, As: as})
			var file bytes.Buffer
			_, err := vfio.Save(context.Background(), source, &file, vfio.SaveOptions{})
			if (err != nil) != (as != 0) || uint64(file.Len()) != at {
				t.Errorf("cut at %d: %d bytes, %v", at, file.Len(), err)
			}
			for build, takes := range map[string]bool{"gen8": false, "cut": true} {
				_, err := vfio.Load(context.Background(), open(t, build), bytes.NewReader(file.Bytes()), vfio.LoadOptions{})
				if (err == nil) != takes {
					t.Errorf("cut at %d, into %s: %v", at, build, err)
				}
			}
		}
		source, _ := openOn(t, "gen8", "V4")
		target, m := openOn(t, "gen9", "V4")
		work(t, source, 3)
		fresh := seen(t, target)
		m.Faults.Set(Fault{Op: OpWrite, At: at, As: unix.EIO})
		_, err := vfio.Load(context.Background(), target, bytes.NewReader(saved(t, source)), vfio.LoadOptions{})
		if !errors.Is(err, unix.EIO) || seen(t, target) != fresh {
			t.Errorf("a write that breaks at %d: %v", at, err)
		}
	}
}
