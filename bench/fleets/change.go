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
// removed from it, by chance, or finds no room for one on the parent that chance
// chose and reports false. What was there from the beginning stays, so that it
// can be asked about. n is another number in each change of a host.
func (f *Fleet) Change(own *inventory.Own, i, n int, r *rand.Rand) (*inventory.Own, bool) {
	next := *own
	next.Available, next.Devices = slices.Clone(own.Available), slices.Clone(own.Devices)
	next.Taken = own.Taken.Add(time.Second)
	static := f.Statics[slices.Index(f.Digests, own.Static)]
	p := r.IntN(len(static.Parents))
	parent, first := &static.Parents[p], p*f.Size.Types
	left := next.Available[first] // of the type that takes one unit
	mine := slices.IndexFunc(next.Devices, func(d inventory.Device) bool { return d.Parent == parent.Name && strings.Contains(d.ID, guest) })
	if mine >= 0 {
		t := slices.IndexFunc(parent.Types, func(t inventory.Type) bool { return t.TypeName == next.Devices[mine].Type })
		left += unitsOf(t)
		next.Devices = slices.Delete(next.Devices, mine, mine+1)
	} else {
		t := r.IntN(f.Size.Types)
		if left < unitsOf(t) {
			return own, false
		}
		left -= unitsOf(t)
		d := device(i, n, parent, &parent.Types[t], r.IntN(2) == 0)
		d.ID = fmt.Sprintf("%08x-0000%s%012x", i, guest, n)
		next.Devices = append(next.Devices, d)
	}
	creatable := []byte(own.Creatable)
	for t := range f.Size.Types {
		count := left / unitsOf(t)
		next.Available[first+t], creatable[first+t] = count, "ny"[min(count, 1)]
	}
	next.Creatable = string(creatable)
	return &next, true
}
