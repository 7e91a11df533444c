// SPDX-License-Identifier: Apache-2.0

package fleet

// stream yields hosts of one cell, best first under a policy; a host may come
// more than once.
type stream struct {
	key   uint64 // rank of the host that comes next
	order uint64 // its number
	step  func(s *stream) bool
}

// before is the order of two streams' next hosts.
func (s *stream) before(o *stream) bool {
	if s.key != o.key {
		return s.key < o.key
	}
	return s.order < o.order
}

// merger yields the hosts of all streams in one order, each once.
type merger struct {
	fleet *Fleet
	heap  []*stream
	seen  map[uint64]bool
	begun bool
}

func (f *Fleet) merger(streams []*stream) *merger {
	m := &merger{fleet: f, heap: make([]*stream, 0, len(streams)), seen: make(map[uint64]bool, 128)}
	for _, s := range streams {
		if s.step(s) {
			m.heap = append(m.heap, s)
		}
	}
	for i := len(m.heap)/2 - 1; i >= 0; i-- {
		sink(m.heap, i)
	}
	return m
}

// next is the next host, nil after the last.
func (m *merger) next() *host {
	for len(m.heap) > 0 {
		s := m.heap[0]
		if m.begun {
			if !s.step(s) {
				m.heap[0] = m.heap[len(m.heap)-1]
				m.heap = m.heap[:len(m.heap)-1]
			}
			if len(m.heap) == 0 {
				break
			}
			sink(m.heap, 0)
			s = m.heap[0]
		}
		m.begun = true
		if !m.seen[s.order] {
			m.seen[s.order] = true
			return m.fleet.numbered(s.order)
		}
	}
	return nil
}

func sink(heap []*stream, i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(heap); child++ {
			if heap[child].before(heap[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		heap[i], heap[least] = heap[least], heap[i]
		i = least
	}
}

// numbered returns the host with a number.
func (f *Fleet) numbered(order uint64) *host {
	low, high := 0, len(f.hosts.pieces)
	for low < high {
		mid := (low + high) / 2
		if items := f.hosts.pieces[mid].items; items[len(items)-1].order < order {
			low = mid + 1
		} else {
			high = mid
		}
	}
	items := f.hosts.pieces[low].items
	low, high = 0, len(items)
	for low < high {
		if mid := (low + high) / 2; items[mid].order < order {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return items[low]
}

// freeStream yields the hosts with a free place in a slot.
func (f *Fleet) freeStream(c *cell, slot int, policy Policy, base uint64) *stream {
	places := &c.slots[slot].places
	set := func(s *stream, place uint64) bool {
		s.key, s.order = base+rankRoom(policy, placeRoom(place)), placeOrder(place)
		return true
	}
	if policy == Pack {
		at, told := places.from(pack(1, 0, 0)), true
		return &stream{step: func(s *stream) bool {
			if place, ok := at.next(); ok && (told || placeRoom(place) == 0) {
				return set(s, place)
			}
			if !told {
				return false
			}
			told, at = false, places.start()
			place, ok := at.next()
			return ok && placeRoom(place) == 0 && set(s, place)
		}}
	}
	// From the most room to the least; hosts with equal room by name.
	limit := ^uint64(0)
	var at cursor[uint64]
	var room uint64
	within := false
	return &stream{step: func(s *stream) bool {
		for {
			if within {
				if place, ok := at.next(); ok && placeRoom(place) == room {
					return set(s, place)
				}
				within = false
			}
			last, ok := places.before(limit)
			if !ok {
				return false
			}
			room = placeRoom(last)
			limit = room << (orderBits + parentBits)
			at, within = places.from(limit), true
		}
	}}
}

// memberStream yields the members of a cell by name.
func memberStream(c *cell) *stream {
	at := c.members.start()
	return &stream{step: func(s *stream) bool {
		h, ok := at.next()
		if ok {
			s.order = h.order
		}
		return ok
	}}
}
