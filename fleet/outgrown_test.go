// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"testing"

	"kindred/inventory"
)

// TestOutgrown: what is kept of devices that are no more does not grow for ever,
// and an index made anew of the same hosts keeps nothing of them.
func TestOutgrown(t *testing.T) {
	s := newSmall(5)
	inv := s.inventories[0]
	for i := 1; len(inv.Devices) == 0; i++ {
		inv = s.inventories[i]
	}
	static, own := inventory.Split(inv)
	index := func() *Index {
		x := NewIndex(s.engine)
		digest, err := x.Static(static)
		if err != nil {
			t.Fatal(err)
		}
		own.Static = digest
		return x
	}
	x := index()
	puts := 0
	for ; !x.Outgrown(); puts++ {
		if puts > 2*spare {
			t.Fatalf("%d kinds of devices are kept of one host", puts)
		}
		next := *own
		next.Devices = append([]inventory.Device(nil), own.Devices...)
		next.Devices[0].Attributes = inventory.Attributes{Complete: true}
		next.Devices[0].Attributes.Set("serial", fmt.Sprint(puts))
		if err := x.Put(&next); err != nil {
			t.Fatal(err)
		}
	}
	if puts < spare/4 {
		t.Errorf("after %d changes it is said to be outgrown", puts)
	}
	again := index()
	if err := again.Put(own); err != nil {
		t.Fatal(err)
	}
	if again.Outgrown() {
		t.Error("a new index of one host is outgrown")
	}
}
