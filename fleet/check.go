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

// Check judges the device, of this fleet or another, against every parent of
// the other hosts, compatibility alone. Of a parent's types the best one is
// the verdict.
func (f *Fleet) Check(s *Source) *Check {
	answer := &Check{Device: describe(s), Verdicts: []compat.Verdict{}}
	what := s.device().class.source.what
	judged := make(map[*offer]compat.Verdict)
	verdict := func(o *offer) compat.Verdict {
		v, ok := judged[o]
		if !ok {
			v = f.engine.Check(what, o.what)
			judged[o] = v
		}
		return v
	}
	for h := range f.hosts.all {
		if h.name == s.Host() {
			continue // it is there already
		}
		offered := false
		for p := range h.layout.parents {
			parent := &h.layout.parents[p]
			var list []compat.Verdict
			for _, o := range h.layout.offers[parent.first : parent.first+parent.count] {
				if v := verdict(o.offer); !different(&v) {
					v.Host, v.Parent = h.name, parent.name
					list = append(list, v)
				}
			}
			if len(list) > 0 {
				offered = true
				answer.Verdicts = append(answer.Verdicts, slices.MinFunc(list, func(a, b compat.Verdict) int { return cmp.Compare(a.Outcome, b.Outcome) }))
			}
		}
		if !offered {
			v := compat.NotOffered(what, h.layout.static)
			v.Host = h.name
			answer.Verdicts = append(answer.Verdicts, v)
		}
	}
	return answer
}

// different is true for an offer of quite another type.
func different(v *compat.Verdict) bool {
	return len(v.Findings) > 0 && v.Findings[0].Code == compat.TypeDifferent
}
