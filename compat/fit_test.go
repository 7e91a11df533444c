// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"kindred/inventory"
)

// plainFit tries every wish of every device in turn.
func plainFit(lefts []*Left, wishes [][]Spot) ([]int, bool) {
	if len(wishes) == 0 {
		return nil, true
	}
	for i, s := range wishes[0] {
		if !lefts[s.Parent].Fits(s.Type) {
			continue
		}
		lefts[s.Parent].Take(s.Type)
		if rest, ok := plainFit(lefts, wishes[1:]); ok {
			return append([]int{i}, rest...), true
		}
		lefts[s.Parent].Untake(s.Type)
	}
	return nil, false
}

// drawLefts draws parents of two types, shared in each known way.
func drawLefts(t *rapid.T) (lefts []*Left) {
	for range rapid.IntRange(1, 3).Draw(t, "parents") {
		c := &Capacity{Model: rapid.SampledFrom([]CapacityModel{SharedCount, SeparateCounts, OneInstance, SharedPools, UnknownCapacity}).Draw(t, "model")}
		if c.Model == SharedPools {
			c.Pools = []Pool{{Name: "units", Takes: []Take{{"big", 2}, {"", 1}}}}
		}
		if rapid.Bool().Draw(t, "one type") {
			c.OneType = inventory.Yes
		}
		counts := rapid.SliceOfN(rapid.IntRange(0, 3), 2, 2).Draw(t, "counts")
		lefts = append(lefts, c.Sharing([]string{"big", "small"}).Left(counts, []int{0, 0}))
	}
	return lefts
}

// TestFit: the answer is the one that trying everything finds, and is taken.
func TestFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lefts := drawLefts(t)
		var spots []Spot
		for p := range lefts {
			spots = append(spots, Spot{p, 0}, Spot{p, 1})
		}
		kinds := make([][]Spot, rapid.IntRange(1, 3).Draw(t, "kinds"))
		for k := range kinds {
			kinds[k] = rapid.Permutation(spots).Draw(t, "wishes")[:rapid.IntRange(0, len(spots)).Draw(t, "as many")]
		}
		wishes := rapid.SliceOfN(rapid.SampledFrom(kinds), 0, 6).Draw(t, "devices")
		plain := make([]*Left, len(lefts))
		for p, l := range lefts {
			plain[p] = l.Clone()
		}
		want, fits := plainFit(plain, wishes)
		search := &Search{Steps: 1 << 20}
		got, ok := search.Fit(lefts, wishes)
		if ok != fits || search.Over() || !slices.Equal(got, want) {
			t.Fatalf("%v, %v; trying everything: %v, %v", got, ok, want, fits)
		}
		for p := range lefts {
			if fmt.Sprint(*lefts[p]) != fmt.Sprint(*plain[p]) {
				t.Fatalf("parent %d: %+v is taken, not %+v", p, lefts[p], plain[p])
			}
		}
	})
}

// alike is many devices with the same wishes, on parents with room for some.
func alike(devices, parents, room int) ([]*Left, [][]Spot) {
	var lefts []*Left
	var wish []Spot
	for p := range parents {
		n := room / parents
		if p < room%parents {
			n++
		}
		lefts = append(lefts, (&Capacity{Model: SharedCount}).Sharing([]string{"t"}).Left([]int{n}, []int{0}))
		wish = append(wish, Spot{p, 0})
	}
	return lefts, slices.Repeat([][]Spot{wish}, devices)
}

// two is devices of two sizes in turn, on parents whose pools have room for all
// but one unit of them, where large ones do not go to every fourth parent.
func two(devices, parents, less int) ([]*Left, [][]Spot) {
	capacity := &Capacity{Model: SharedPools, Pools: []Pool{{Name: "units", Takes: []Take{{"big", 2}, {"", 1}}}}}
	units := devices*3/2 - less
	var lefts []*Left
	var big, small []Spot
	for p := range parents {
		n := units / parents
		if p < units%parents {
			n++
		}
		lefts = append(lefts, capacity.Sharing([]string{"big", "small"}).Left([]int{n / 2, n}, []int{0, 0}))
		small = append(small, Spot{p, 1})
		if p%4 != 3 {
			big = append(big, Spot{p, 0})
		}
	}
	return lefts, slices.Repeat([][]Spot{small, big}, devices/2)
}

// TestFitMany: many devices are a matter of few steps, whether they fit or not.
func TestFitMany(t *testing.T) {
	for name, c := range map[string]struct {
		question func(a, b, c int) ([]*Left, [][]Spot)
		devices  int
		parents  int
		third    int
		fits     bool
		steps    int
	}{
		"alike, room for one less":        {alike, 32, 8, 31, false, 100},
		"alike, on many parents":          {alike, 32, 31, 31, false, 100},
		"alike, room for all":             {alike, 32, 8, 32, true, 0},
		"two sizes, a unit less":          {two, 32, 8, 1, false, 5000},
		"two sizes, room for all":         {two, 32, 8, 0, true, 16000},
		"two sizes, more parents":         {two, 32, 16, 1, false, 5000},
		"a hundred, two sizes":            {two, 100, 10, 1, false, 50000},
		"a hundred, and they fit just so": {two, 100, 10, 0, true, 200000},
	} {
		lefts, wishes := c.question(c.devices, c.parents, c.third)
		search := &Search{Steps: 1 << 20}
		_, ok := search.Fit(lefts, wishes)
		if took := 1<<20 - search.Steps; ok != c.fits || took > c.steps {
			t.Errorf("%s: %v, after %d steps", name, ok, took)
		}
	}
}

// TestFitOver: a search ends with its steps, or with who asked, and says so. What
// it knows by then is an answer.
func TestFitOver(t *testing.T) {
	lefts, wishes := two(32, 8, 1)
	search := &Search{Steps: 5}
	if _, ok := search.Fit(lefts, wishes); ok || !search.Over() {
		t.Errorf("%v, and it is over: %v", ok, search.Over())
	}
	done := make(chan struct{})
	close(done)
	search = &Search{Steps: 1 << 20, Done: done}
	if _, ok := search.Fit(lefts, wishes); ok || !search.Over() {
		t.Errorf("%v for nobody, and it is over: %v", ok, search.Over())
	}
	for _, l := range lefts {
		if l.held[0]+l.held[1] > 0 {
			t.Errorf("a search that found nothing took %v", l.held)
		}
	}
	found := false
	for steps := 1; !found || !search.Over(); steps *= 2 {
		lefts, wishes := two(32, 8, 0)
		search = &Search{Steps: steps}
		got, ok := search.Fit(lefts, wishes)
		if !ok {
			if search.Over() {
				continue
			}
			t.Fatal("they do not fit")
		}
		taken := 0
		for d, s := range wishes {
			if got[d] < 0 || got[d] >= len(s) {
				t.Fatalf("device %d got wish %d of %d", d, got[d], len(s))
			}
		}
		for _, l := range lefts {
			taken += l.held[0] + l.held[1]
			if l.pools[0] < 0 {
				t.Fatalf("%d units too many are taken", -l.pools[0])
			}
		}
		if taken != len(wishes) {
			t.Fatalf("%d devices are placed", taken)
		}
		if found = true; !search.Over() {
			break
		}
	}
}

func BenchmarkFit(b *testing.B) {
	for _, question := range []struct {
		name string
		ask  func() ([]*Left, [][]Spot)
	}{
		{"alike-full", func() ([]*Left, [][]Spot) { return alike(32, 8, 31) }},
		{"alike-fits", func() ([]*Left, [][]Spot) { return alike(32, 8, 32) }},
		{"two-full", func() ([]*Left, [][]Spot) { return two(32, 8, 1) }},
		{"two-fits", func() ([]*Left, [][]Spot) { return two(32, 8, 0) }},
	} {
		b.Run(question.name, func(b *testing.B) {
			for b.Loop() {
				lefts, wishes := question.ask()
				(&Search{Steps: 1 << 20}).Fit(lefts, wishes)
			}
		})
	}
}
