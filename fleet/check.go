// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"slices"

	"kindred/compat"
)

// Check is the answer to "could this device go to these hosts": a verdict for
// each parent that offers its type, or one for a host where none does.
type Check struct {
	Device   Device           `json:"device"`
	Verdicts []compat.Verdict `json:"verdicts"` // by host, then parent
}

// Check judges the device against every parent of the other hosts,
// compatibility alone. Of a parent's types the best one is the verdict.
func (f *Fleet) Check(s *compat.Source) *Check {
	answer := &Check{Device: describe(s), Verdicts: []compat.Verdict{}}
	for i := range f.hosts {
		h := &f.hosts[i]
		if h.inv.Host.Name == s.Host() {
			continue // it is there already
		}
		var byParent [][]compat.Verdict
		for _, o := range h.offers { // in the order of parents
			v := f.engine.Check(s, o)
			if n := len(byParent); n == 0 || byParent[n-1][0].Parent != v.Parent {
				byParent = append(byParent, nil)
			}
			byParent[len(byParent)-1] = append(byParent[len(byParent)-1], v)
		}
		offered := false
		for _, list := range byParent {
			best := slices.MinFunc(list, func(a, b compat.Verdict) int {
				return cmp.Or(cmp.Compare(a.Outcome, b.Outcome), sameFirst(&a, &b))
			})
			if !different(&best) {
				answer.Verdicts = append(answer.Verdicts, best)
				offered = true
			}
		}
		if !offered {
			answer.Verdicts = append(answer.Verdicts, compat.NotOffered(s, h.inv))
		}
	}
	return answer
}

// sameFirst puts a refused offer of the device's type before one of another.
func sameFirst(a, b *compat.Verdict) int {
	switch da, db := different(a), different(b); {
	case da && !db:
		return 1
	case db && !da:
		return -1
	}
	return 0
}
