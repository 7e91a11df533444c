// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"slices"
	"sync"
)

// cell is what the index keeps of the hosts of one layout. It does not change.
type cell struct {
	layout  *layout
	members list[*host]
	slots   []tally
	unions  *sync.Map // slots as text -> [2]int, see ready
}

// tally is what the index counts for one slot.
type tally struct {
	// places are parents with room for more: room, host and parent in one
	// number, see pack, in this order.
	places list[uint64]
	free   int // hosts with such a parent
	full   int // hosts without, where the kernel would create no more on some
	room   int // how many more there is certainly room for
}

// A place is a number made of three. Room that is not told counts as 0; room
// beyond roomMax is not told apart.
const (
	parentBits = 12
	orderBits  = 34
	maxParents = 1 << parentBits
	maxOrder   = 1 << orderBits
	roomMax    = 1<<(64-parentBits-orderBits) - 1
)

func pack(room int32, order uint64, parent int) uint64 {
	return uint64(min(max(room, 0), roomMax))<<(orderBits+parentBits) | order<<parentBits | uint64(parent)
}

func placeRoom(place uint64) uint64  { return place >> (orderBits + parentBits) }
func placeOrder(place uint64) uint64 { return place >> parentBits & (maxOrder - 1) }

// slotRoom is what a host has for a slot.
type slotRoom struct {
	free, full bool
	room       int
}

func (h *host) slotRooms() []slotRoom {
	rooms := make([]slotRoom, len(h.layout.slots))
	for i, packed := range h.rooms {
		s := &rooms[h.layout.offers[i].slot]
		s.free = s.free || isFree(packed)
		s.full = s.full || isFull(packed)
		s.room += certain(packed)
	}
	return rooms
}

// count adds a host's share to a tally, or takes it away with a sign of -1.
func (t *tally) count(r slotRoom, sign int) {
	switch {
	case r.free:
		t.free += sign
	case r.full:
		t.full += sign
	}
	t.room += sign * r.room
}

// moved is the cell with news of a member; either may be nil.
func (c *cell) moved(old, h *host) *cell {
	next := &cell{c.layout, c.members, slices.Clone(c.slots), new(sync.Map)}
	if h != nil {
		next.members = c.members.with(h)
	} else {
		next.members = c.members.without(old)
	}
	if old != nil && h != nil && slices.Equal(old.rooms, h.rooms) {
		return next
	}
	if old != nil {
		for i, r := range old.slotRooms() {
			next.slots[i].count(r, -1)
		}
	}
	if h != nil {
		for i, r := range h.slotRooms() {
			next.slots[i].count(r, 1)
		}
	}
	for i, o := range c.layout.offers {
		was, is := old != nil && isFree(old.rooms[i]), h != nil && isFree(h.rooms[i])
		t := &next.slots[o.slot]
		switch {
		case was && is && old.rooms[i] != h.rooms[i]:
			t.places = t.places.moved(pack(old.rooms[i], old.order, o.parent), pack(h.rooms[i], h.order, o.parent))
		case was && !is:
			t.places = t.places.without(pack(old.rooms[i], old.order, o.parent))
		case is && !was:
			t.places = t.places.with(pack(h.rooms[i], h.order, o.parent))
		}
	}
	return next
}

// filling is a cell while it is built.
type filling struct {
	layout  *layout
	members []*host
	slots   []tally
	places  [][]uint64
}

func newFilling(l *layout) *filling {
	return &filling{layout: l, slots: make([]tally, len(l.slots)), places: make([][]uint64, len(l.slots))}
}

// add adds a host; they come by name.
func (c *filling) add(h *host) {
	c.members = append(c.members, h)
	for i, r := range h.slotRooms() {
		c.slots[i].count(r, 1)
	}
	for i, o := range c.layout.offers {
		if packed := h.rooms[i]; isFree(packed) {
			c.places[o.slot] = append(c.places[o.slot], pack(packed, h.order, o.parent))
		}
	}
}

func (c *filling) cell() *cell {
	for i := range c.slots {
		slices.Sort(c.places[i])
		c.slots[i].places = newList(byNumber, slices.Clip(c.places[i]))
	}
	return &cell{c.layout, newList(byName, c.members), c.slots, new(sync.Map)}
}

// cellOf is the cell of a layout, an empty one if there is none yet.
func (f *Fleet) cellOf(l *layout) *cell {
	if l.id < len(f.cells) && f.cells[l.id] != nil {
		return f.cells[l.id]
	}
	return newFilling(l).cell()
}

// setCell keeps a cell; the fleet is not yet anybody else's.
func (f *Fleet) setCell(id int, c *cell) {
	for len(f.cells) <= id {
		f.cells = append(f.cells, nil)
	}
	f.cells[id] = c
}

// ready counts the hosts of a cell with a free place in one of some slots, and
// those without where one is full.
func (c *cell) ready(slots []int) (free, full int) {
	if len(slots) == 1 {
		return c.slots[slots[0]].free, c.slots[slots[0]].full
	}
	var key []byte
	for _, s := range slots {
		key = append(key, byte(s), byte(s>>8))
	}
	if known, ok := c.unions.Load(string(key)); ok {
		n := known.([2]int)
		return n[0], n[1]
	}
	for h := range c.members.all {
		anyFree, anyFull := false, false
		for i, o := range c.layout.offers {
			if slices.Contains(slots, o.slot) {
				anyFree = anyFree || isFree(h.rooms[i])
				anyFull = anyFull || isFull(h.rooms[i])
			}
		}
		switch {
		case anyFree:
			free++
		case anyFull:
			full++
		}
	}
	c.unions.Store(string(key), [2]int{free, full})
	return free, full
}
