// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"slices"
	"testing"

	"kindred/compat"
	"kindred/inventory"
)

// TestFindingsShared: lists that are alike are one, all others are not, and who adds
// to one changes nobody else's.
func TestFindingsShared(t *testing.T) {
	finding := func(code compat.Code, value string) compat.Finding {
		return compat.Finding{Code: code, Outcome: compat.Unknown, Source: inventory.Of(value)}
	}
	a, b := finding(compat.TypeDifferent, "1"), finding(compat.TypeDifferent, "2")
	var f findings
	first := f.list([]compat.Finding{a, b})
	if second := f.list([]compat.Finding{a, b}); &second[0] != &first[0] || len(second) != 2 {
		t.Error("lists that are alike are two")
	}
	for _, other := range [][]compat.Finding{{a}, {b}, {b, a}, {a, b, b}, {a, finding(compat.TypeDifferent, "3")}} {
		got := f.list(other)
		if &got[0] == &first[0] || !slices.Equal(got, other) {
			t.Errorf("%v became %v", other, got)
		}
	}
	// More findings than fit into one byte of the key.
	var many []compat.Finding
	for n := range 300 {
		many = append(many, finding(compat.TypeDifferent, string(rune('a'+n))))
	}
	for n := range many {
		if got := f.list(many[n : n+1]); got[0] != many[n] {
			t.Fatalf("finding %d became %v", n, got[0])
		}
	}
	if got := f.list(nil); len(got) != 0 {
		t.Errorf("no findings became %v", got)
	}
	_ = append(first, a)
	if more := append(f.list([]compat.Finding{a, b}), b); cap(first) != len(first) || more[2] != b {
		t.Error("a list has room that two may write to")
	}
}
