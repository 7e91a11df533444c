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

// merged yields the hosts of all streams in one order, each once.
func (f *Fleet) merged(streams []*stream, yield func(*host) bool) {
	heap := make([]*stream, 0, len(streams))
	for _, s := range streams {
		if s.step(s) {
			heap = append(heap, s)
		}
	}
	for i := len(heap)/2 - 1; i >= 0; i-- {
		sink(heap, i)
	}
	seen := make(map[uint64]bool)
	for len(heap) > 0 {
		s := heap[0]
		if !seen[s.order] {
			seen[s.order] = true
			if !yield(f.numbered(s.order)) {
				return
			}
		}
		if !s.step(s) {
			heap[0] = heap[len(heap)-1]
			heap = heap[:len(heap)-1]
		}
		if len(heap) > 0 {
			sink(heap, 0)
		}
	}
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
