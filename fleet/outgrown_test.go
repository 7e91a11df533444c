// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindred/inventory"
)

// TestOutgrown: what is kept of devices that are no more does not grow for ever,
// and an index made anew of the same hosts keeps nothing of them.
func TestOutgrown(t *testing.T) {
	s := newSmall(5)
	x := NewIndex(s.engine)
	var own *inventory.Own
	for _, inv := range s.inventories {
		static, o := inventory.Split(inv)
		digest, err := x.Static(static)
		if err != nil {
			t.Fatal(err)
		}
		o.Static = digest
		if err := x.Put(o); err != nil {
			t.Fatal(err)
		}
		if len(o.Devices) > 0 {
			own = o
		}
	}
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
	if puts < spare/8 { // a change may bring several kinds
		t.Errorf("after %d changes it is said to be outgrown", puts)
	}
	again, err := x.Under(s.engine)
	if err != nil {
		t.Fatal(err)
	}
	if again.Outgrown() {
		t.Error("an index made anew is outgrown")
	}
	if d := cmp.Diff(targetsOf(x), targetsOf(again)); d != "" {
		t.Errorf("made anew it answers otherwise:\n%s", d)
	}
}

// targetsOf are the answers for all devices.
func targetsOf(x *Index) (list []string) {
	f := x.Fleet()
	for h := range f.hosts.all {
		for at := range h.devices {
			answer, _ := json.Marshal(f.Targets(&Source{h, at}, Options{Limit: 10}))
			list = append(list, string(answer))
		}
	}
	return list
}
