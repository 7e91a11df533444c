// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"testing"

	"kindred/inventory"
)

// TestJointMany: many devices that are alike are counted, where there is no place
// for one of them and where each parent is filled to the last.
func TestJointMany(t *testing.T) {
	const devices, parents = 32, 16
	host := func(name string, rooms ...int) *inventory.Inventory {
		inv := newHost(name)
		inv.Parents, inv.Devices = nil, nil
		for i, n := range rooms {
			p := newHost(name, newType("t", "5", n)).Parents[0]
			p.Name = fmt.Sprintf("p%02d", i)
			inv.Parents = append(inv.Parents, p)
		}
		return inv
	}
	rooms := make([]int, parents)
	for i := range rooms {
		rooms[i] = devices / parents
	}
	fits := host("fits", rooms...)
	rooms[0]--
	source, full := host("from", devices), host("full", rooms...)
	t0 := &source.Parents[0].Types[0]
	for i := range devices {
		source.Devices = append(source.Devices, inventory.Device{
			ID: fmt.Sprintf("00000000-0000-0000-0000-0000000000%02d", i), Kind: inventory.Mdev, Parent: "p00", Type: t0.TypeName, InUse: inventory.No,
			Attributes: inventory.Attributes{Complete: true},
		})
	}
	f, err := New(newEngine(t), []*inventory.Inventory{source, fits, full})
	if err != nil {
		t.Fatal(err)
	}
	var all []*Source
	for i := range source.Devices {
		s, err := f.Source("from/" + source.Devices[i].ID)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	answer, err := f.Joint(all, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range answer.Hosts {
		if want := map[string]Group{"fits": Ready, "full": Full}[h.Host]; h.Group != want {
			t.Errorf("%s is %s: %s", h.Host, h.Group, h.Reason.Text)
		}
		if h.Group == Ready && len(h.Places) != devices {
			t.Errorf("%d places", len(h.Places))
		}
	}
}
