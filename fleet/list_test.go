// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestList: after any changes a list is the sorted set, and older ones are as
// they were.
func TestList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var first []int
		for i := range rapid.SampledFrom([]int{0, 1, 5, 700, 2000}).Draw(t, "size") {
			first = append(first, 3*i)
		}
		l := newList(cmp.Compare[int], first)
		set := make(map[int]bool)
		for _, x := range first {
			set[x] = true
		}
		type version struct {
			list list[int]
			want []int
		}
		var versions []version
		for range rapid.IntRange(1, 60).Draw(t, "changes") {
			x := rapid.IntRange(-2, 6100).Draw(t, "x")
			switch rapid.IntRange(0, 3).Draw(t, "change") {
			case 0, 1:
				l, set[x] = l.with(x), true
			case 2:
				if all := slices.Sorted(maps.Keys(set)); len(all) > 0 && rapid.Bool().Draw(t, "there") {
					x = all[len(all)/2]
				}
				l = l.without(x)
				delete(set, x)
			case 3:
				y := rapid.IntRange(-2, 6100).Draw(t, "y")
				l = l.moved(x, y)
				delete(set, x)
				set[y] = true
			}
			versions = append(versions, version{l, slices.Sorted(maps.Keys(set))})
		}
		for _, v := range versions {
			got := slices.Collect(v.list.all)
			if !slices.Equal(got, v.want) || v.list.size != len(v.want) {
				t.Fatalf("got %v, want %v", got, v.want)
			}
			x := rapid.IntRange(-3, 6200).Draw(t, "seek")
			at, there := slices.BinarySearch(v.want, x)
			if _, ok := v.list.get(x); ok != there {
				t.Fatalf("get %d: %v", x, ok)
			}
			c := v.list.from(x)
			for _, want := range v.want[at:] {
				if got, ok := c.next(); !ok || got != want {
					t.Fatalf("from %d: %d, want %d", x, got, want)
				}
			}
			if got, ok := c.next(); ok {
				t.Fatalf("from %d: %d after the last", x, got)
			}
			if got, ok := v.list.before(x); ok != (at > 0) || ok && got != v.want[at-1] {
				t.Fatalf("before %d: %d", x, got)
			}
		}
	})
}
