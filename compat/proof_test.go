// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kindred/inventory"
)

// genProof draws a proof about the pair, of one of a few moments.
func genProof(t *rapid.T, s *Source, o *Offer) Proof {
	p := proofOf(s, o)
	p.Grade = rapid.SampledFrom([]Grade{HeaderOnly, FreshState, WorkingState, Observed}).Draw(t, "grade")
	p.Result = rapid.SampledFrom([]Result{Accepted, Rejected, Inconclusive}).Draw(t, "result")
	p.Controls = rapid.Bool().Draw(t, "controls")
	p.Tries = rapid.IntRange(0, 3).Draw(t, "tries")
	p.Time = p.Time.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "hour")) * time.Hour)
	if rapid.IntRange(0, 3).Draw(t, "about another pair") == 0 {
		p.TargetBuild = "another"
	}
	return p
}

// TestProofProperties holds one pair of different builds against the rules for
// proofs, written down here a second time.
func TestProofProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newPair()
		different := rapid.Bool().Draw(rt, "different builds")
		if different {
			p.otherBuild()
		}
		lowest := rapid.SampledFrom([]Grade{0, HeaderOnly, FreshState, WorkingState, Observed}).Draw(rt, "lowest")
		p.catalog.Proof.Lowest = lowest
		if lowest == 0 {
			lowest = WorkingState
		}
		e := p.engine(t, nil)
		s, o := e.Source(p.from, p.device()), e.Offers(p.to)[0]
		var proofs []Proof
		for range rapid.IntRange(0, 4).Draw(rt, "proofs") {
			proofs = append(proofs, genProof(rt, s, o))
		}

		// The newest about this pair that settles something; of one moment
		// the worst.
		refuses := func(f *Proof) bool { // of itself, a transfer is its own control
			return f.Result == Rejected && f.Tries >= 2 && (f.Controls || f.TargetBuild == f.SourceBuild)
		}
		settles := func(f *Proof) bool {
			return f.TargetBuild == o.build.ID && (refuses(f) || f.Result == Accepted && f.Grade >= lowest)
		}
		want := Compatible
		if different {
			want = Unknown
		}
		var newest time.Time
		for i := range proofs {
			if settles(&proofs[i]) && proofs[i].Time.After(newest) {
				newest = proofs[i].Time
			}
		}
		rejected, accepted, n := false, true, 0
		for i := range proofs {
			f := &proofs[i]
			if !settles(f) || !f.Time.Equal(newest) {
				continue
			}
			n++
			rejected = rejected || refuses(f)
			accepted = accepted && f.Result == Accepted && f.Grade >= lowest
		}
		switch {
		case rejected:
			want = Incompatible
		case accepted && n > 0:
			want = Compatible
		}

		e = p.engine(t, proofs)
		v := e.Check(s, o)
		if v.Outcome != want {
			rt.Errorf("%s, want %s, of %+v", v.Outcome, want, proofs)
		}
		if lifted := len(v.Lifted) > 0; lifted != (different && accepted && n > 0 && !rejected) {
			rt.Errorf("lifted %v of %+v", v.Lifted, proofs)
		}
		shuffled := rapid.Permutation(proofs).Draw(rt, "order")
		if w := p.engine(t, shuffled).Check(s, o); !reflect.DeepEqual(v, w) {
			rt.Errorf("another order of proofs, another verdict:\n%+v\n%+v", v, w)
		}
	})
}

// TestAcceptanceLiftsNothingElse gives every case of the codes an accepted
// proof of the highest grade. It lifts what is unproven, and nothing else.
func TestAcceptanceLiftsNothingElse(t *testing.T) {
	for _, c := range codeCases {
		t.Run(c.name, func(t *testing.T) {
			p := newPair()
			c.change(p)
			p.prove = nil
			without := p.check(t)
			p.proved(func(f *Proof) { f.Grade = Observed })
			with := p.check(t)
			for i := range without.Findings {
				f := without.Findings[i]
				switch f.Code {
				case BuildUnproven, EquivalenceUnproven:
				default:
					if !slices.ContainsFunc(with.Findings, func(g Finding) bool { return reflect.DeepEqual(f, g) }) {
						t.Errorf("%s is lost: %s", f.Code, f.Text())
					}
				}
			}
			for _, code := range with.Lifted {
				if code != BuildUnproven && code != EquivalenceUnproven {
					t.Errorf("%s was lifted", code)
				}
				if !has(&without, code) {
					t.Errorf("%s was lifted, and never was there", code)
				}
			}
			if without.Outcome == Incompatible && with.Outcome != Incompatible {
				t.Errorf("an acceptance turned incompatible into %s", with.Outcome)
			}
		})
	}
}

// TestProofNeedsItsWholeKey: a proof about something slightly different is
// no proof.
func TestProofNeedsItsWholeKey(t *testing.T) {
	for name, change := range map[string]func(*Proof){
		"source type":  func(f *Proof) { f.SourceType.Name = "u" },
		"target type":  func(f *Proof) { f.TargetType.Namespace = "nt" },
		"source build": func(f *Proof) { f.SourceBuild = "x" },
		"target build": func(f *Proof) { f.TargetBuild = "x" },
		"source shape": func(f *Proof) { f.SourceShape = "x" },
		"target shape": func(f *Proof) { f.TargetShape = "x" },
		"direction":    func(f *Proof) { f.SourceBuild, f.TargetBuild = f.TargetBuild, f.SourceBuild },
	} {
		for _, result := range []Result{Accepted, Rejected} {
			p := newPair()
			p.otherBuild()
			p.proved(func(f *Proof) { f.Result = result; change(f) })
			if v := p.check(t); v.Outcome != Unknown {
				t.Errorf("%s, another %s: %s", result, name, v.Outcome)
			}
		}
	}
}

// TestProofOfUnknownBuild: a build that could not be read has no name, and no
// proof is about it.
func TestProofOfUnknownBuild(t *testing.T) {
	p := newPair()
	p.to.Modules = nil
	p.proved(func(f *Proof) { f.TargetBuild = "" })
	if v := p.check(t); v.Outcome != Unknown || has(&v, ProofAccepted) {
		t.Errorf("%s: %+v", v.Outcome, v.Findings)
	}
}

func TestGrades(t *testing.T) {
	if !(HeaderOnly < FreshState && FreshState < WorkingState && WorkingState < Observed) {
		t.Error("the grades are out of order")
	}
	for _, g := range []Grade{HeaderOnly, FreshState, WorkingState, Observed} {
		text, err := g.MarshalText()
		var back Grade
		if err != nil || back.UnmarshalText(text) != nil || back != g {
			t.Errorf("%s became %s", g, back)
		}
	}
	if new(Grade).UnmarshalText([]byte("perfect")) == nil || new(Outcome).UnmarshalText([]byte("maybe")) == nil {
		t.Error("words that are none were taken")
	}
	for _, o := range []Outcome{Compatible, Unknown, Incompatible} {
		text, err := o.MarshalText()
		var back Outcome
		if err != nil || back.UnmarshalText(text) != nil || back != o {
			t.Errorf("%s became %s", o, back)
		}
	}
}

// TestSimulatedProof: what no kernel took part in decides nothing between
// machines that exist, whichever way it ended, and hides no proof that does.
func TestSimulatedProof(t *testing.T) {
	for _, result := range []Result{Accepted, Rejected} {
		for _, origin := range []inventory.Origin{inventory.FromKernel, inventory.FromTree, inventory.FromSimulator} {
			p := newPair()
			p.otherBuild()
			p.from.Origin, p.to.Origin = origin, origin
			e := p.engine(t, nil)
			s, o := e.Source(p.from, p.device()), e.Offers(p.to)[0]
			proof := proofOf(s, o)
			proof.Simulated, proof.Result = true, result
			want := Unknown
			if origin == inventory.FromSimulator {
				want = map[Result]Outcome{Accepted: Compatible, Rejected: Incompatible}[result]
			}
			e = p.engine(t, []Proof{proof})
			s, o = e.Source(p.from, p.device()), e.Offers(p.to)[0]
			if got := e.Outcome(s, o); got != want {
				t.Errorf("%s between machines of origin %s: %s, want %s", result, origin, got, want)
			}
			real := proofOf(s, o)
			real.Time = real.Time.Add(-time.Hour)
			if got := p.engine(t, []Proof{proof, real}).Outcome(s, o); got != Compatible && origin != inventory.FromSimulator {
				t.Errorf("%s hides a real proof between machines of origin %s: %s", result, origin, got)
			}
			was := e.OfferClass(o)
			p.to.Origin = inventory.FromKernel
			if changed := e.OfferClass(o) != was; changed != (origin == inventory.FromSimulator) {
				t.Errorf("from origin %s to a kernel: another class: %v", origin, changed)
			}
		}
	}
}
