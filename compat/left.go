// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"slices"

	"kindred/inventory"
)

// Sharing is how the types of one parent share it: the catalog's capacity
// model, resolved for their names.
type Sharing struct {
	model   CapacityModel
	oneType bool
	pools   []string // their names
	units   [][]int  // by pool, then type
}

// Sharing resolves the model for a parent's types. A nil capacity, and one
// whose pools leave out a type, is a model that is unknown.
func (c *Capacity) Sharing(names []string) *Sharing {
	if c == nil {
		return &Sharing{model: UnknownCapacity}
	}
	s := &Sharing{model: c.Model, oneType: c.OneType == inventory.Yes}
	if c.Model != SharedPools {
		return s
	}
	for i := range c.Pools {
		units := make([]int, len(names))
		for t, name := range names {
			var ok bool
			if units[t], ok = c.Pools[i].takes(name); !ok {
				return &Sharing{model: UnknownCapacity, oneType: s.oneType}
			}
		}
		s.pools, s.units = append(s.pools, c.Pools[i].Name), append(s.units, units)
	}
	return s
}

// Estimated reports whether room for several types at once is a guess: no
// model says how they share, and each instance counts against every type.
func (s *Sharing) Estimated() bool { return s.model == UnknownCapacity || s.model == "" }

// Takes is what one instance of the type takes of each pool, nil where no
// pools are known.
func (s *Sharing) Takes(t int) map[string]int {
	if len(s.pools) == 0 {
		return nil
	}
	takes := make(map[string]int, len(s.pools))
	for i, name := range s.pools {
		takes[name] = s.units[i][t]
	}
	return takes
}

// Left is what a parent has left while instances are placed on it in thought.
// It never says that there is room where the kernel's counts and the model
// together allow that there is none. Types are numbers in the order that
// Sharing was asked with.
type Left struct {
	sharing *Sharing
	counts  []int // how many more of each type alone
	pools   []int // units that are certainly left
	held    []int // instances of each type, there before and placed
	placed  []int // of which placed in thought
}

// Left begins with the kernel's count for each type, and the instances of each
// that are there. A count that is not told is one where the kernel would
// create one, else none.
func (s *Sharing) Left(counts, held []int) *Left {
	l := &Left{sharing: s, counts: slices.Clone(counts), held: slices.Clone(held), placed: make([]int, len(counts))}
	for _, units := range s.units {
		left := 0
		for t, n := range counts {
			left = max(left, n*units[t]) // the kernel would create n of them
		}
		l.pools = append(l.pools, left)
	}
	return l
}

// Clone is a copy that changes on its own.
func (l *Left) Clone() *Left {
	c := *l
	c.counts, c.pools, c.held, c.placed = slices.Clone(l.counts), slices.Clone(l.pools), slices.Clone(l.held), slices.Clone(l.placed)
	return &c
}

// Fits reports whether one more instance of the type has room, beside all that
// were placed.
func (l *Left) Fits(t int) bool {
	if l.counts[t] < 1 {
		return false
	}
	if l.sharing.oneType {
		for other, n := range l.placed { // of what was there before, the kernel's counts tell
			if other != t && n > 0 {
				return false
			}
		}
	}
	switch l.sharing.model {
	case SeparateCounts:
	case SharedPools:
		for i, units := range l.sharing.units {
			if units[t] > l.pools[i] {
				return false
			}
		}
	default: // every instance counts against every type that was placed
		for other, n := range l.placed {
			if n > 0 && l.counts[other] < 1 {
				return false
			}
		}
	}
	return true
}

// Take places one instance that fits.
func (l *Left) Take(t int) {
	l.change(t, 1)
	l.placed[t]++
}

// Untake takes back what Take did.
func (l *Left) Untake(t int) {
	l.change(t, -1)
	l.placed[t]--
}

func (l *Left) change(t, n int) {
	l.held[t] += n
	switch l.sharing.model {
	case SeparateCounts:
		l.counts[t] -= n
	case SharedPools:
		l.counts[t] -= n
		for i, units := range l.sharing.units {
			l.pools[i] -= n * units[t]
		}
	default:
		for other := range l.counts {
			l.counts[other] -= n
		}
	}
}

// Give removes one instance that was there before anything was placed. What
// comes free for other types is counted only where a model says so.
func (l *Left) Give(t int) {
	l.held[t] = max(l.held[t]-1, 0)
	switch l.sharing.model {
	case SharedCount:
		for other := range l.counts {
			if other == t || !l.bound(other) {
				l.counts[other]++
			}
		}
	case SharedPools:
		for i, units := range l.sharing.units {
			l.pools[i] += units[t]
		}
		l.counts[t]++
		for other := range l.counts {
			if l.bound(other) {
				continue
			}
			fits := -1
			for i, units := range l.sharing.units {
				if n := l.pools[i] / units[other]; fits < 0 || n < fits {
					fits = n
				}
			}
			l.counts[other] = max(l.counts[other], fits)
		}
	default:
		l.counts[t]++
	}
}

// bound reports whether the parent is given to another type than this.
func (l *Left) bound(t int) bool {
	if l.sharing.oneType {
		for other, n := range l.held {
			if other != t && n > 0 {
				return true
			}
		}
	}
	return false
}

// Mixed reports whether instances of several types are placed by guess.
func (l *Left) Mixed() bool {
	kinds := 0
	for _, n := range l.placed {
		if n > 0 {
			kinds++
		}
	}
	return kinds > 1 && l.sharing.Estimated()
}

// Room is how many more of the type have room, alone.
func (l *Left) Room(t int) int {
	if !l.Fits(t) {
		return 0
	}
	n := l.counts[t]
	switch l.sharing.model {
	case SeparateCounts:
	case SharedPools:
		for i, units := range l.sharing.units {
			n = min(n, l.pools[i]/units[t])
		}
	default:
		for other, placed := range l.placed {
			if placed > 0 {
				n = min(n, l.counts[other])
			}
		}
	}
	return n
}

// Most is a number of instances, of any types together, that a parent with
// these counts certainly does not exceed.
func (s *Sharing) Most(counts []int) int {
	most := 0
	switch s.model {
	case SeparateCounts:
		for _, n := range counts {
			most += n
		}
	case SharedPools:
		for i, units := range s.units {
			left, least := 0, 0
			for t, n := range counts {
				left = max(left, n*units[t])
				if least == 0 || units[t] < least {
					least = units[t]
				}
			}
			if n := left / max(least, 1); i == 0 || n < most {
				most = n
			}
		}
	default:
		for _, n := range counts {
			most = max(most, n)
		}
	}
	return most
}

// Units is what one instance of the type takes of the parent's first pool, and
// 1 where there are none.
func (s *Sharing) Units(t int) int {
	if len(s.units) == 0 {
		return 1
	}
	return s.units[0][t]
}

// Size is how many of those units a parent with these counts has for instances
// in a plan.
func (s *Sharing) Size(counts []int) int {
	if len(s.units) == 0 {
		return s.Most(counts)
	}
	left := 0
	for t, n := range counts {
		left = max(left, n*s.units[0][t])
	}
	return left
}
