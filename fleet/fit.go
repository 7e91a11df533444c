// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"slices"

	"kindred/compat"
)

// space is what a host has left while devices are placed on it in thought.
type space struct {
	host  *host
	lefts []*compat.Left // by parent; nil for one not looked at
}

func newSpace(h *host) *space { return &space{h, make([]*compat.Left, len(h.layout.parents))} }

// left is what a parent has left, and the number of an offer among its types.
func (s *space) left(offer int) (*compat.Left, int) {
	p := s.host.layout.offers[offer].parent
	parent := &s.host.layout.parents[p]
	if s.lefts[p] == nil {
		counts := make([]int, parent.count)
		for i := range counts {
			counts[i] = certain(s.host.rooms[parent.first+i])
		}
		s.lefts[p] = parent.sharing.Left(counts, s.host.held(p))
	}
	return s.lefts[p], offer - parent.first
}

func (s *space) fits(offer int) bool {
	if s.lefts[s.host.layout.offers[offer].parent] == nil && certain(s.host.rooms[offer]) == 0 {
		return false
	}
	l, t := s.left(offer)
	return l.Fits(t)
}

func (s *space) take(offer int) {
	l, t := s.left(offer)
	l.Take(t)
}

func (s *space) untake(offer int) {
	l, t := s.left(offer)
	l.Untake(t)
}

// mixed reports whether room was guessed.
func (s *space) mixed() bool {
	return slices.ContainsFunc(s.lefts, func(l *compat.Left) bool { return l != nil && l.Mixed() })
}

// wish is one device to be placed, and the offers it could take, best first.
type wish struct {
	class  *deviceClass
	offers []int
}

// Where devices do not find places at once, there may be ever more ways to try:
// those are counted, up to a number that only many kinds of devices together, on
// many parents, come to. Beyond it they count as not fitting.
const (
	fewTries  = 256
	mostSteps = 1 << 17
)

// fit places all devices on a host, if that is possible at all, and leaves them
// taken. The answer is the offer for each: the best for the one with the fewest
// offers that leaves the others a place, and so on.
func (s *space) fit(wishes []wish) (offers []int, ok bool) {
	offers, ok, steps := s.fitWithin(wishes, fewTries)
	if ok || steps < fewTries {
		return offers, ok
	}
	order := fewestFirst(wishes)
	spots := make([][]compat.Spot, len(wishes))
	for i, n := range order {
		for _, o := range wishes[n].offers {
			_, t := s.left(o)
			spots[i] = append(spots[i], compat.Spot{Parent: s.host.layout.offers[o].parent, Type: t})
		}
	}
	search := &compat.Search{Steps: mostSteps}
	got, ok := search.Fit(s.lefts, spots)
	if !ok {
		return nil, false
	}
	offers = make([]int, len(wishes))
	for i, n := range order {
		offers[n] = wishes[n].offers[got[i]]
	}
	return offers, true
}

// fewestFirst is the order in which devices are placed: those with the fewest offers first.
func fewestFirst(wishes []wish) []int {
	order := make([]int, len(wishes))
	for i := range order {
		order[i] = i
	}
	if len(wishes) > 1 {
		slices.SortStableFunc(order, func(a, b int) int {
			return cmp.Or(cmp.Compare(len(wishes[a].offers), len(wishes[b].offers)), cmp.Compare(wishes[a].class.id, wishes[b].class.id))
		})
	}
	return order
}

// fitWithin is fit with at most so many steps. It tries offers in their order and
// goes back on the last one where the rest has no place; devices of one class are
// not tried in more than one order. What it did in the end is how many steps it
// took: as many as it had when it gave up, and then that the devices do not fit is
// not certain.
func (s *space) fitWithin(wishes []wish, limit int) (offers []int, ok bool, steps int) {
	for _, w := range wishes {
		if !slices.ContainsFunc(w.offers, s.fits) {
			return nil, false, 0
		}
	}
	f := fitting{space: s, wishes: wishes, order: fewestFirst(wishes), offers: make([]int, len(wishes)), limit: limit}
	if !f.place(0, 0) {
		return nil, false, f.tries
	}
	return f.offers, true, f.tries
}

type fitting struct {
	*space
	wishes []wish
	order  []int // of wishes
	offers []int // the answer
	tries  int
	limit  int
	failed map[string]bool // what cannot be completed, see key
}

// place places the devices from the n-th on; that one takes no offer before
// the given place in its list.
func (f *fitting) place(n, from int) bool {
	if n == len(f.order) {
		return true
	}
	if f.tries == f.limit {
		return false
	}
	var key string
	if f.tries++; f.tries > 32 {
		if key = f.key(n, from); f.failed[key] {
			return false
		}
	}
	w := &f.wishes[f.order[n]]
	for i := from; i < len(w.offers); i++ {
		o := w.offers[i]
		if !f.fits(o) {
			continue
		}
		f.take(o)
		f.offers[f.order[n]] = o
		next := 0
		if n+1 < len(f.order) && f.wishes[f.order[n+1]].class == w.class {
			next = i
		}
		if f.place(n+1, next) {
			return true
		}
		f.untake(o)
	}
	if key != "" && f.tries != f.limit {
		if f.failed == nil {
			f.failed = make(map[string]bool)
		}
		f.failed[key] = true
	}
	return false
}

// key is what the rest depends on: how far it is, and how many of each offer
// are taken, in any order.
func (f *fitting) key(n, from int) string {
	taken := make([]int, 0, n)
	for _, i := range f.order[:n] {
		taken = append(taken, f.offers[i])
	}
	slices.Sort(taken)
	b := []byte{byte(n), byte(from), byte(from >> 8)}
	for _, o := range taken {
		b = append(b, byte(o), byte(o>>8))
	}
	return string(b)
}

// wish is a device's on a host: the compatible offers in the policy's order.
func (f *Fleet) wish(h *host, c *deviceClass, v *view, policy Policy) wish {
	w := wish{class: c, offers: v.good}
	if len(v.good) < 2 {
		return w
	}
	type ranked struct {
		offer int
		rank  uint64
		room  int32
	}
	list := make([]ranked, 0, len(v.good))
	for _, i := range v.good {
		if certain(h.rooms[i]) > 0 {
			list = append(list, ranked{i, f.rank(policy, c, &h.layout.offers[i], h.layout, h.rooms[i]), told(h.rooms[i])})
		}
	}
	slices.SortFunc(list, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(b.room, a.room), cmp.Compare(a.offer, b.offer))
	})
	w.offers = make([]int, len(list))
	for i, r := range list {
		w.offers[i] = r.offer
	}
	return w
}
