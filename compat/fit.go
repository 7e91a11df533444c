// SPDX-License-Identifier: Apache-2.0

package compat

import "slices"

// Spot is a type of a parent, both by number: where a device could be made.
type Spot struct{ Parent, Type int }

// Search finds spots for devices. It is bounded: where parents are shared in
// several ways at once, to be sure that there is no way takes for ever.
type Search struct {
	Steps int             // that it may still take
	Done  <-chan struct{} // closed when nobody waits for the answer; nil: never
}

// Over reports whether a search gave up: that it found nothing says nothing then.
func (s *Search) Over() bool {
	if s.Steps <= 0 {
		return true
	}
	if s.Steps%1024 == 0 {
		select {
		case <-s.Done:
			s.Steps = 0
			return true
		default:
		}
	}
	return false
}

// Fit finds a spot for every device at once, each the first of its wishes that
// leaves the others one, and leaves them taken; a parent that no wish names may be
// nil. The answer is which wish each
// got. Devices with the same wishes are counted, not tried in every order, and
// parents are filled one after the other, so that only how many of each are left
// matters to the next. A search that gives up in the midst of it answers with a
// way that it knows, if it knows one.
func (s *Search) Fit(lefts []*Left, wishes [][]Spot) (got []int, ok bool) {
	f := fitting{Search: s, lefts: lefts, wishes: wishes, got: make([]int, len(wishes))}
	f.group()
	if f.first(0) {
		return f.got, true
	}
	if !f.rest(0) {
		return nil, false
	}
	for n := range wishes {
		if !f.settle(n) {
			f.asFound(n)
			break
		}
	}
	return f.got, true
}

// fitting is one question to a search.
type fitting struct {
	*Search
	lefts  []*Left
	wishes [][]Spot
	got    []int // the answer

	kind    []int      // of each device: those of one kind have the same wishes
	least   []int      // of each kind: no wish before this one leaves the others a place
	options [][]option // by parent
	found   [][]Spot   // by kind: the last way that the rest was found to fit in

	want   []int // devices of each kind that still need a place
	all    int   // the sum of them
	most   []int // by parent: what it and those after it could take of any kind
	failed map[string]bool
}

// option is one way in which a parent is of use.
type option struct{ kind, typ int }

// group finds the devices that are alike.
func (f *fitting) group() {
	var kinds [][]Spot
	f.options = make([][]option, len(f.lefts))
	for _, w := range f.wishes {
		k := slices.IndexFunc(kinds, func(o []Spot) bool { return slices.Equal(o, w) })
		if k < 0 {
			k = len(kinds)
			kinds = append(kinds, w)
			for _, s := range w {
				f.options[s.Parent] = append(f.options[s.Parent], option{k, s.Type})
			}
		}
		f.kind = append(f.kind, k)
	}
	f.least, f.want, f.found = make([]int, len(kinds)), make([]int, len(kinds)), make([][]Spot, len(kinds))
}

// first gives each device from the n-th on its first wish that fits beside those
// before it. Where that does for all of them, there is nothing better.
func (f *fitting) first(n int) bool {
	for d := n; d < len(f.wishes); d++ {
		w := f.wishes[d]
		f.got[d] = slices.IndexFunc(w, func(s Spot) bool { return f.lefts[s.Parent].Fits(s.Type) })
		if f.got[d] < 0 {
			for ; d > n; d-- {
				f.untake(d - 1)
			}
			return false
		}
		f.take(d)
	}
	return true
}

func (f *fitting) take(d int) {
	s := f.wishes[d][f.got[d]]
	f.lefts[s.Parent].Take(s.Type)
}

func (f *fitting) untake(d int) {
	s := f.wishes[d][f.got[d]]
	f.lefts[s.Parent].Untake(s.Type)
}

// settle gives the n-th device its first wish that leaves those after it a
// place: there is one, unless the search is over. What did not do for a device
// does not do for one of its kind after it, which could as well change places.
func (f *fitting) settle(n int) bool {
	least := &f.least[f.kind[n]]
	for ; *least < len(f.wishes[n]); *least++ {
		s := f.wishes[n][*least]
		if !f.lefts[s.Parent].Fits(s.Type) {
			continue
		}
		f.got[n] = *least
		f.take(n)
		if f.rest(n + 1) {
			return true
		}
		f.untake(n)
		if f.Over() {
			return false
		}
	}
	return false
}

// asFound gives the devices from the n-th on what was found for them last.
func (f *fitting) asFound(n int) {
	for d := n; d < len(f.wishes); d++ {
		spots := &f.found[f.kind[d]]
		f.got[d] = slices.Index(f.wishes[d], (*spots)[0])
		*spots = (*spots)[1:]
		f.take(d)
	}
}

// rest reports whether the devices from the n-th on fit, in any way, beside what
// is taken. It takes nothing, and notes the way.
func (f *fitting) rest(n int) bool {
	clear(f.want)
	for _, k := range f.kind[n:] {
		f.want[k]++
	}
	f.all = len(f.kind) - n
	f.failed = make(map[string]bool)
	f.most = make([]int, len(f.lefts)+1)
	for p := len(f.lefts) - 1; p >= 0; p-- {
		f.most[p] = f.most[p+1] + f.lefts[p].most(f.options[p])
	}
	before := f.found
	f.found = make([][]Spot, len(before))
	if f.from(0) {
		return true
	}
	f.found = before
	return false
}

// from puts what is wanted on the parents from the p-th on.
func (f *fitting) from(p int) bool {
	switch {
	case f.all == 0:
		return true
	case p == len(f.lefts) || f.all > f.most[p]:
		return false
	}
	key := []byte{byte(p), byte(p >> 8)}
	for _, n := range f.want {
		key = append(key, byte(n), byte(n>>8))
	}
	if f.failed[string(key)] {
		return false
	}
	if f.fill(p, f.options[p]) {
		return true
	}
	f.failed[string(key)] = true
	return false
}

// fill puts as many as fit on one parent, in every way that leaves nothing out
// that would fit too: what fits, fits without some of it, so fewer never help.
func (f *fitting) fill(p int, options []option) bool {
	if f.Over() {
		return false
	}
	f.Steps--
	l := f.lefts[p]
	if len(options) == 0 {
		more := slices.ContainsFunc(f.options[p], func(o option) bool { return f.want[o.kind] > 0 && l.Fits(o.typ) })
		return !more && f.from(p+1)
	}
	o, n := options[0], 0
	for ; f.want[o.kind] > 0 && l.Fits(o.typ); n++ {
		f.put(p, o, 1)
	}
	ok := f.fill(p, options[1:])
	for ; !ok && n > 0 && !f.Over(); n-- {
		f.put(p, o, -1)
		ok = f.fill(p, options[1:])
	}
	for ; n > 0; n-- {
		f.put(p, o, -1)
		if ok {
			f.found[o.kind] = append(f.found[o.kind], Spot{p, o.typ})
		}
	}
	return ok
}

// put puts one device on a parent, or takes it off again.
func (f *fitting) put(p int, o option, by int) {
	if by > 0 {
		f.lefts[p].Take(o.typ)
	} else {
		f.lefts[p].Untake(o.typ)
	}
	f.want[o.kind] -= by
	f.all -= by
}

// most is how many devices, in any of these ways, the parent certainly does not
// exceed.
func (l *Left) most(options []option) int {
	if len(options) == 0 {
		return 0
	}
	sum, single := 0, 0
	least := make([]int, len(l.pools)) // that one of them takes of each pool
	for i, o := range options {
		n := l.Room(o.typ)
		if n == 0 || slices.ContainsFunc(options[:i], func(b option) bool { return b.typ == o.typ }) {
			continue
		}
		sum, single = sum+n, max(single, n)
		for p, units := range l.sharing.units {
			if least[p] == 0 || units[o.typ] < least[p] {
				least[p] = units[o.typ]
			}
		}
	}
	switch {
	case l.sharing.oneType, l.sharing.model != SeparateCounts && l.sharing.model != SharedPools:
		return single
	}
	for p, n := range least {
		if n > 0 {
			sum = min(sum, l.pools[p]/n)
		}
	}
	return sum
}
