// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindred/inventory"
)

// A device that travels with an extract of its inventory, as a recorded stream
// does, is judged as it would be with the whole: same build, same shape, same
// verdict on every offer of every recorded host, and the same way back.
func TestExtractJudgesAlike(t *testing.T) {
	catalogs, err := NewCatalogs(BuiltIn(), nil)
	if err != nil {
		t.Fatal(err)
	}
	none, err := NewCatalogs(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, pattern := range []string{"../demo/recorded/*.json", "../host/testdata/*.json"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	var list []*inventory.Inventory
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		inv, err := inventory.Decode(data)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		list = append(list, inv)
	}
	devices, judged := 0, 0
	for name, e := range map[string]*Engine{"built-in": NewEngine(catalogs, nil), "no catalogs": NewEngine(none, nil)} {
		for _, inv := range list {
			for i := range inv.Devices {
				d := &inv.Devices[i]
				part, err := inv.Extract(d.ID)
				if err != nil {
					t.Fatal(err)
				}
				whole, cut := e.Source(inv, d), e.Source(part, part.Device(d.ID))
				devices++
				if diff := cmp.Diff(whole.build, cut.build, cmp.Comparer(func(a, b inventory.Value) bool { return a == b })); diff != "" {
					t.Errorf("%s: %s on %s: the build differs: %s", name, d.ID, inv.Host.Name, diff)
				}
				if whole.shape != cut.shape || whole.shaped != cut.shaped {
					t.Errorf("%s: %s on %s: the shape is %q, of the whole %q", name, d.ID, inv.Host.Name, cut.shape, whole.shape)
				}
				for _, target := range list {
					for _, o := range e.Offers(target) {
						judged++
						if diff := cmp.Diff(e.Check(whole, o), e.Check(cut, o), cmp.Comparer(func(a, b inventory.Value) bool { return a == b })); diff != "" {
							t.Errorf("%s: %s on %s to %s: %s", name, d.ID, inv.Host.Name, o.Host(), diff)
						}
						if home, homeCut := e.Home(whole), e.Home(cut); (home == nil) != (homeCut == nil) {
							t.Errorf("%s: %s on %s has one home only", name, d.ID, inv.Host.Name)
						} else if home != nil && e.Outcome(e.Arrived(whole, o), home) != e.Outcome(e.Arrived(cut, o), homeCut) {
							t.Errorf("%s: %s on %s: the way back differs", name, d.ID, inv.Host.Name)
						}
					}
				}
			}
		}
	}
	if devices < 40 || judged < 400 {
		t.Errorf("only %d devices and %d answers were compared", devices, judged)
	}
}
