// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"testing"

	"kindred/inventory"
)

// plainPair is like mtty: one rule, one attribute.
func plainPair() *pair {
	p := newPair()
	p.promise()
	return p
}

// richPair has a rule of eight kinds, ten attributes, a contract, firmware
// under a version rule, epochs that do not apply, and a build that only a
// proof accepts.
func richPair() *pair {
	p := newPair()
	p.catalog.Rules = []Rule{
		{Attribute: "a0", Of: OfType, Kind: Equal},
		{Attribute: "a1", Of: OfType, Kind: Superset, Form: List},
		{Attribute: "a2", Of: OfType, Kind: AtLeast},
		{Attribute: "a3", Of: OfType, Kind: AtMost},
		{Attribute: "a4", Of: OfType, Kind: SemVer},
		{Attribute: "a5", Of: OfType, Kind: OneOf},
		{Attribute: "a6", Of: OfType, Kind: Superset, Form: BitMask},
		{Attribute: "ecc", Of: OfFact, Kind: Equal},
	}
	for _, inv := range []*inventory.Inventory{p.from, p.to} {
		inv.Parents[0].Types[0].Attributes = attributes("a0", "vfio", "a1", "stop-copy,p2p,pre-copy", "a2", "4096", "a3", "16", "a4", "17.2",
			"a5", "gen9", "a6", "0xff", "a7", "same", "a8", "same", "a9", "same")
		inv.Host.Facts = inventory.Facts{"ecc": {Value: inventory.Of("on"), Source: "test"}}
	}
	p.promise()
	p.contract().TypeAttributes = p.fromType().Attributes
	p.toType().Attributes.Set("a2", "8192")
	p.catalog.Epochs = []Epoch{{Name: "e", Builds: []Selector{{"module:m": "x*"}, {"module:m": "y*"}}}}
	p.catalog.KnownBad = []KnownBad{{Builds: []Selector{{"module:m": "z*"}}}}
	p.catalog.Proof.Shaping = []string{"a0", "a4"}
	p.otherBuild()
	p.proved(func(*Proof) {})
	return p
}

var benchPairs = []struct {
	name string
	make func() *pair
}{{"plain", plainPair}, {"rich", richPair}}

// prepared is the pair as an engine's questions take it, with its proofs.
func (p *pair) prepared(t testing.TB) (*Engine, *Source, *Offer) {
	e := p.engine(t, nil)
	if p.prove != nil {
		e = p.engine(t, p.prove(e.Source(p.from, p.device()), e.Offers(p.to)[0]))
	}
	s, o := e.Source(p.from, p.device()), e.Offers(p.to)[0]
	if v := e.Check(s, o); v.Outcome != Compatible {
		t.Fatalf("%s: %s", v.Outcome, v.Worst().Text())
	}
	return e, s, o
}

var (
	sinkOutcome Outcome
	sinkVerdict Verdict
)

func BenchmarkOutcome(b *testing.B) {
	for _, c := range benchPairs {
		b.Run(c.name, func(b *testing.B) {
			e, s, o := c.make().prepared(b)
			b.ReportAllocs()
			for b.Loop() {
				sinkOutcome = e.Outcome(s, o)
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, c := range benchPairs {
		b.Run(c.name, func(b *testing.B) {
			e, s, o := c.make().prepared(b)
			b.ReportAllocs()
			for b.Loop() {
				sinkVerdict = e.Check(s, o)
			}
		})
	}
}

// BenchmarkPrepare is what Check does not have to do again for each target.
func BenchmarkPrepare(b *testing.B) {
	for _, c := range benchPairs {
		b.Run(c.name, func(b *testing.B) {
			p := c.make()
			e, _, _ := p.prepared(b)
			b.ReportAllocs()
			for b.Loop() {
				e.Source(p.from, p.device())
			}
		})
	}
}
