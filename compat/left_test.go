// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"slices"
	"testing"

	"kindred/inventory"
)

// TestLeft places instances on parents whose types share in each known way.
func TestLeft(t *testing.T) {
	pools := func(one inventory.Answer) *Capacity {
		return &Capacity{Model: SharedPools, OneType: one, Pools: []Pool{
			{Name: "ports", Takes: []Take{{"big", 4}, {"", 1}}},
			{Name: "memory", Takes: []Take{{"", 2}}},
		}}
	}
	for _, c := range []struct {
		name     string
		capacity *Capacity
		counts   []int // of big, small
		take     []int
		fits     bool // all of them
	}{
		{"separate", &Capacity{Model: SeparateCounts}, []int{1, 2}, []int{0, 1, 1}, true},
		{"separate, one too many", &Capacity{Model: SeparateCounts}, []int{1, 2}, []int{0, 0}, false},
		{"shared", &Capacity{Model: SharedCount}, []int{3, 3}, []int{0, 1, 1}, true},
		{"shared, one too many", &Capacity{Model: SharedCount}, []int{3, 3}, []int{0, 1, 1, 0}, false},
		{"pools", pools(""), []int{2, 9}, []int{0, 1, 1, 1, 1, 1}, true},
		{"pools, the other type takes the rest", pools(""), []int{2, 9}, []int{0, 1, 1, 1, 1, 1, 1}, false},
		{"pools, certain of no more than the counts show", pools(""), []int{2, 0}, []int{0, 1}, false},
		{"one type", pools(inventory.Yes), []int{2, 9}, []int{0, 1}, false},
		{"one type, twice", pools(inventory.Yes), []int{2, 9}, []int{0, 0}, true},
		{"unknown counts against every type", nil, []int{2, 9}, []int{0, 1}, true},
		{"unknown, in any order", nil, []int{2, 9}, []int{0, 1, 1}, false},
		{"unknown, in this order too", nil, []int{2, 9}, []int{1, 1, 0}, false},
		{"a pool without the type is unknown", &Capacity{Model: SharedPools, Pools: []Pool{{Name: "x", Takes: []Take{{"big", 1}}}}}, []int{2, 9}, []int{1, 1, 0}, false},
	} {
		l := c.capacity.Sharing([]string{"big", "small"}).Left(c.counts, []int{0, 0})
		fits := true
		for _, typ := range c.take {
			if fits = l.Fits(typ); !fits {
				break
			}
			l.Take(typ)
		}
		if fits != c.fits {
			t.Errorf("%s: %v", c.name, fits)
		}
	}
	// What is given back can be taken again, and by others where a model says so.
	for model, want := range map[CapacityModel][]bool{SeparateCounts: {true, false}, SharedCount: {true, true}, UnknownCapacity: {true, false}, OneInstance: {true, false}} {
		l := (&Capacity{Model: model}).Sharing([]string{"big", "small"}).Left([]int{0, 0}, []int{1, 0})
		l.Give(0)
		if got := []bool{l.Fits(0), l.Fits(1)}; !slices.Equal(got, want) {
			t.Errorf("%s after giving back: %v", model, got)
		}
	}
	l := pools(inventory.Yes).Sharing([]string{"big", "small"}).Left([]int{0, 0}, []int{1, 0})
	if l.Give(0); !l.Fits(0) || !l.Fits(1) {
		t.Error("an empty parent of one type at a time takes any")
	}
	l.Take(1)
	if l.Fits(0) {
		t.Error("and then that one only")
	}
	if takes := pools("").Sharing([]string{"big", "small"}).Takes(0); takes["ports"] != 4 || takes["memory"] != 2 {
		t.Errorf("a big one takes %v", takes)
	}
	if l.Untake(1); !l.Fits(0) {
		t.Error("taking back leaves it as it was")
	}
	// Room is what Fits allows one after the other, and Most is never exceeded.
	for _, c := range []*Capacity{pools(""), {Model: SharedCount}, {Model: SeparateCounts}, nil} {
		sharing := c.Sharing([]string{"big", "small"})
		counts := []int{2, 9}
		for first := range 2 {
			l := sharing.Left(counts, []int{0, 0})
			l.Take(first)
			for typ := range 2 {
				room, n, all := l.Room(typ), 0, l.Clone()
				for ; all.Fits(typ); n++ {
					all.Take(typ)
				}
				if n != room || n+1 > sharing.Most(counts) {
					t.Errorf("%+v: room for %d of type %d after one of %d, and %d fit; at most %d", c, room, typ, first, n, sharing.Most(counts))
				}
			}
		}
	}
}
