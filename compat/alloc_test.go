// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"fmt"
	"testing"
)

// TestOutcomeAllocatesNothing holds Outcome to what it promises, on every path that a
// code stands for.
func TestOutcomeAllocatesNothing(t *testing.T) {
	measure := func(name string, p *pair) {
		t.Run(name, func(t *testing.T) {
			e := p.engine(t, nil)
			if p.prove != nil {
				e = p.engine(t, p.prove(e.Source(p.from, p.device()), e.Offers(p.to)[0]))
			}
			s, o := e.Source(p.from, p.device()), e.Offers(p.to)[0]
			if n := testing.AllocsPerRun(100, func() { sinkOutcome = e.Outcome(s, o) }); n != 0 {
				t.Errorf("Outcome allocates %v times", n)
			}
		})
	}
	for _, c := range benchPairs {
		measure(c.name, c.make())
	}
	for _, c := range codeCases {
		p := newPair()
		c.change(p)
		measure(fmt.Sprint("code: ", c.name), p)
	}
}
