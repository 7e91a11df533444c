// SPDX-License-Identifier: Apache-2.0

package fleets

import (
	"math/rand/v2"
	"testing"

	"kindred/fleet"
	"kindred/inventory"
)

// TestChange: after any number of changes a host makes sense, no parent has more
// devices than units, and all that was there from the beginning is there.
func TestChange(t *testing.T) {
	m, err := New(1, Size{Hosts: 20})
	if err != nil {
		t.Fatal(err)
	}
	x := fleet.NewIndex(m.Engine)
	for _, static := range m.Statics {
		if _, err := x.Static(static); err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(3, 3))
	for i := range 20 {
		own, more, less := m.Host(i), 0, 0
		begin := m.Inventory(i)
		for n := range 200 {
			next, ok := m.Change(own, i, n, r)
			if !ok {
				t.Fatalf("%s: nothing can change any more", own.Host)
			}
			switch len(next.Devices) - len(own.Devices) {
			case 1:
				more++
			case -1:
				less++
			default:
				t.Fatalf("%d devices after %d", len(next.Devices), len(own.Devices))
			}
			own = next
		}
		if more < 10 || less < 10 {
			t.Errorf("%s: %d devices were made, %d removed", own.Host, more, less)
		}
		if err := x.Put(own); err != nil {
			t.Fatal(err)
		}
		after := inventory.Join(begin, own)
		for _, d := range begin.Devices {
			if after.Device(d.ID) == nil {
				t.Errorf("%s: device %s is gone", own.Host, d.ID)
			}
		}
		if err := after.Validate(); err != nil {
			t.Error(err)
		}
		for p := range after.Parents {
			used := 0
			for _, d := range after.Devices {
				if d.Parent == after.Parents[p].Name {
					for n := range after.Parents[p].Types {
						if after.Parents[p].Types[n].TypeName == d.Type {
							used += unitsOf(n)
						}
					}
				}
			}
			if left := *after.Parents[p].Types[0].Available; left < 0 || used+left > units {
				t.Errorf("%s: %d units in use and %d left of %d", own.Host, used, left, units)
			}
		}
	}
}

// TestFull: a host on which there is no room at all does not change, and whoever
// asks is told so.
func TestFull(t *testing.T) {
	m, err := New(1, Size{Hosts: 1, Parents: 2})
	if err != nil {
		t.Fatal(err)
	}
	own := m.Host(0)
	own.Available = nil
	m.count(own, []int{units, units})
	if next, ok := m.Change(own, 0, 1, rand.New(rand.NewPCG(1, 1))); ok || next != own {
		t.Errorf("a full host became %+v", next)
	}
	own.Available = nil
	m.count(own, []int{units, units - 1})
	for n := range 20 {
		if _, ok := m.Change(own, 0, n, rand.New(rand.NewPCG(1, uint64(n)))); !ok {
			t.Error("a host with one unit left does not change")
		}
	}
}
