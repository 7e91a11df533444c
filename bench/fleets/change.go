// SPDX-License-Identifier: Apache-2.0

package fleets

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"kindred/inventory"
)

// guest is in the ids of devices that Change makes.
const guest = "-4000-9000-"

// Change makes of host number i what it is after one device was made on it or
// removed from it, by chance. It reports false for a host of which every parent is
// full with what Kindred does not see, and which therefore never changes. What was
// there from the beginning stays, so that it can be asked about. n is another
// number in each change of a host.
func (f *Fleet) Change(own *inventory.Own, i, n int, r *rand.Rand) (*inventory.Own, bool) {
	static := f.Statics[f.makes[own.Static]]
	begin := r.IntN(len(static.Parents))
	for k := range static.Parents {
		p := (begin + k) % len(static.Parents)
		name := static.Parents[p].Name
		mine := slices.IndexFunc(own.Devices, func(d inventory.Device) bool { return d.Parent == name && strings.Contains(d.ID, guest) })
		switch left := own.Available[p*f.Size.Types]; { // of the type that takes one unit
		case mine >= 0:
			return f.removed(own, p, mine), true
		case left > 0:
			t := r.IntN(f.Size.Types)
			if unitsOf(t) > left {
				t -= t % sizes // the smallest of that interface
			}
			d := device(i, n, &static.Parents[p], &static.Parents[p].Types[t], r.IntN(2) == 0)
			d.ID = fmt.Sprintf("%08x-0000%s%012x", i, guest, n)
			next := f.leaving(own, p, left-unitsOf(t))
			next.Devices = append(slices.Clone(own.Devices), d)
			return next, true
		}
	}
	return own, false
}

// removed is the host without its device number mine, which is on parent number p.
func (f *Fleet) removed(own *inventory.Own, p, mine int) *inventory.Own {
	types := f.Statics[f.makes[own.Static]].Parents[p].Types
	t := slices.IndexFunc(types, func(t inventory.Type) bool { return t.TypeName == own.Devices[mine].Type })
	next := f.leaving(own, p, own.Available[p*f.Size.Types]+unitsOf(t))
	next.Devices = slices.Delete(slices.Clone(own.Devices), mine, mine+1)
	return next
}

// leaving is the host a second later, with so many units left on parent number p.
func (f *Fleet) leaving(own *inventory.Own, p, left int) *inventory.Own {
	next := *own
	next.Taken = own.Taken.Add(time.Second)
	next.Available = slices.Clone(own.Available)
	creatable, first := []byte(own.Creatable), p*f.Size.Types
	for t := range f.Size.Types {
		count := left / unitsOf(t)
		next.Available[first+t], creatable[first+t] = count, "ny"[min(count, 1)]
	}
	next.Creatable = string(creatable)
	return &next
}
