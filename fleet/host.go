// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"strings"
	"time"

	"kindred/inventory"
)

// host is one host: what it has of its own, beside its make. It does not
// change; news of it make another.
type host struct {
	name    string
	order   uint64 // hosts in the order of their names; see maxOrder
	make    *hostMake
	layout  *layout
	origin  inventory.Origin
	taken   time.Time
	partial bool    // not all devices could be listed
	rooms   []int32 // for each offer of the layout, see packRoom
	devices []device
}

// device is one device on its host.
type device struct {
	id      string
	parent  int // of the layout
	typ     int // of the layout's offers, -1 where its parent does not list it
	use     inventory.Answer
	content *content
	class   *deviceClass
}

// packRoom keeps what room is made of in one number.
func packRoom(available int, creatable byte) int32 {
	switch {
	case creatable == 'n' && available > 0:
		return -3 - int32(min(available, 1<<30))
	case creatable == 'n' && available < 0:
		return -3
	case creatable == 'n', available == 0:
		return 0
	case available > 0:
		return int32(min(available, 1<<30))
	case creatable == 'y':
		return roomFree
	}
	return roomUnknown
}

const (
	roomFree    = -1 // for one at least, and for how many is not told
	roomUnknown = -2
)

// unpackRoom is the room that packRoom packed. What the kernel says of one type
// is what its pool has left: types that share one shrink together.
func unpackRoom(packed int32) Room {
	switch {
	case packed == roomUnknown:
		return Room{RoomUnknown, nil}
	case packed == roomFree:
		return Room{RoomFree, nil}
	case packed > 0:
		return Room{RoomFree, new(int(packed))}
	case packed == 0:
		return Room{RoomFull, new(0)}
	case packed == -3:
		return Room{RoomFull, nil}
	}
	return Room{RoomFull, new(int(-3 - packed))}
}

func isFree(packed int32) bool { return packed > 0 || packed == roomFree }

func isFull(packed int32) bool { return packed == 0 || packed < roomUnknown }

// certain is how many instances there is room for with certainty.
func certain(packed int32) int {
	switch {
	case packed > 0:
		return int(packed)
	case packed == roomFree:
		return 1
	}
	return 0
}

// host makes the host of a stored one, whose parts have to fit. The caller
// holds the lock.
func (k *kinds) host(m *hostMake, own *inventory.Own, before *host) (*host, error) {
	h := &host{name: own.Host, make: m, layout: m.layout, origin: own.Origin, taken: own.Taken, partial: own.Partial}
	h.rooms = make([]int32, len(own.Available))
	for i, n := range own.Available {
		h.rooms[m.place[i]] = packRoom(n, own.Creatable[i])
	}
	h.devices = make([]device, 0, len(own.Devices))
	for i := range own.Devices {
		d := &own.Devices[i]
		if d.Canary != "" {
			continue // nobody's: it goes nowhere, and what it takes the counters have
		}
		c, class, err := k.device(m, d)
		if err != nil {
			return nil, err
		}
		next := device{id: d.ID, use: d.InUse, content: c, class: class}
		if was := before.at(len(h.devices), d.ID); was != nil && before.make == m && was.content == c && before.layout.parents[was.parent].name == d.Parent {
			next.id, next.parent, next.typ = was.id, was.parent, was.typ // the text that is kept already
		} else {
			next = newDevice(m, d.ID, d.Parent, d.InUse, c, class)
		}
		h.devices = append(h.devices, next)
	}
	return h, nil
}

// at is the device at a place of the list if it has that id, else nil.
func (h *host) at(i int, id string) *device {
	if h == nil || i >= len(h.devices) || h.devices[i].id != id {
		return nil
	}
	return &h.devices[i]
}

func newDevice(m *hostMake, id, parent string, use inventory.Answer, c *content, class *deviceClass) device {
	d := device{id: id, parent: m.parent[parent], typ: -1, use: use, content: c, class: class}
	p := &m.layout.parents[d.parent]
	for i := p.first; i < p.first+p.count; i++ {
		if m.layout.offers[i].typ.TypeName == c.device.Type {
			d.typ = i
		}
	}
	return d
}

// remade is the host with another static part, which has the parents that the
// host's devices are on. Types that were not there before have no known room.
func (k *kinds) remade(h *host, m *hostMake) (*host, error) {
	next := *h
	next.make, next.layout = m, m.layout
	next.rooms = make([]int32, len(m.layout.offers))
	for i, was := range k.movesTo(h.layout, m.layout) {
		next.rooms[i] = roomUnknown
		if was >= 0 {
			next.rooms[i] = h.rooms[was]
		}
	}
	next.devices = nil
	for _, d := range h.devices {
		parent := h.layout.parents[d.parent].name
		if _, ok := m.parent[parent]; !ok {
			continue // it went with its parent
		}
		class, err := k.classOf(m, parent, d.content)
		if err != nil {
			return nil, err
		}
		next.devices = append(next.devices, newDevice(m, d.id, parent, d.use, d.content, class))
	}
	return &next, nil
}

// movesTo is, for each offer of a layout, which one of another it was: of the
// same parent and type, -1 for none.
func (k *kinds) movesTo(from, to *layout) []int {
	key := [2]*layout{from, to}
	if moves, ok := k.moves[key]; ok {
		return moves
	}
	type place struct {
		parent string
		typ    inventory.TypeName
	}
	old := make(map[place]int, len(from.offers))
	for i, o := range from.offers {
		old[place{from.parents[o.parent].name, o.typ.TypeName}] = i
	}
	moves := make([]int, len(to.offers))
	for i, o := range to.offers {
		was, ok := old[place{to.parents[o.parent].name, o.typ.TypeName}]
		if !ok {
			was = -1
		}
		moves[i] = was
	}
	k.moves[key] = moves
	return moves
}

// held counts the instances of each type on a parent.
func (h *host) held(parent int) []int {
	p := &h.layout.parents[parent]
	n := make([]int, p.count)
	for i := range h.devices {
		if d := &h.devices[i]; d.parent == parent && d.typ >= 0 {
			n[d.typ-p.first]++
		}
	}
	return n
}

func byName(a, b *host) int { return strings.Compare(a.name, b.name) }

// reference is where a device is found by its id.
type reference struct {
	id   string // in lower case
	host string
}

func byID(a, b reference) int {
	return cmp.Or(strings.Compare(a.id, b.id), strings.Compare(a.host, b.host))
}

// age is when a host's inventory was taken.
type age struct {
	taken int64  // nanoseconds
	order uint64 // the host's
}

func (h *host) age() age { return age{h.taken.UnixNano(), h.order} }

func byAge(a, b age) int { return cmp.Or(cmp.Compare(a.taken, b.taken), cmp.Compare(a.order, b.order)) }
