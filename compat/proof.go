// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"kindred/inventory"
)

// Grade is how much of a migration a proof exercised.
type Grade uint8

const (
	HeaderOnly   Grade = iota + 1 // the part that a driver checks early
	FreshState                    // the whole stream of a device that did nothing yet
	WorkingState                  // the whole stream of a device that had worked
	Observed                      // a VM's own migration
)

var gradeNames = map[Grade]string{HeaderOnly: "header-only", FreshState: "fresh-state", WorkingState: "working-state", Observed: "observed"}

func (g Grade) String() string { return gradeNames[g] }

func (g Grade) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

func (g *Grade) UnmarshalText(text []byte) error {
	for grade, name := range gradeNames {
		if name == string(text) {
			*g = grade
			return nil
		}
	}
	return fmt.Errorf("unknown grade %q: it is one of header-only, fresh-state, working-state, observed", text)
}

// Result is how a transfer ended.
type Result string

const (
	Accepted     Result = "accepted"
	Rejected     Result = "rejected"
	Inconclusive Result = "inconclusive"
)

// Proof is the record of a real transfer between two drivers.
type Proof struct {
	SourceType  inventory.TypeName `json:"source_type"`
	TargetType  inventory.TypeName `json:"target_type"`
	SourceBuild string             `json:"source_build"` // Build.ID
	TargetBuild string             `json:"target_build"`
	SourceShape string             `json:"source_shape,omitempty"` // the attributes that shape the stream
	TargetShape string             `json:"target_shape,omitempty"`
	Grade       Grade              `json:"grade"`
	Result      Result             `json:"result"`
	// Controls is true when self to self passed on both sides, and Tries how
	// often the transfer was tried with this result. A rejection counts only
	// with controls and a repeat, so that a full disk never becomes a veto.
	Controls bool      `json:"controls"`
	Tries    int       `json:"tries"`
	Time     time.Time `json:"time"`
	Detail   string    `json:"detail,omitempty"` // errno and step
	// Verified is true when what a guest sees was compared and equal.
	Verified bool `json:"verified"`
	// Simulated is true when no kernel took part.
	Simulated bool       `json:"simulated,omitempty"`
	Source    *ProofSide `json:"source,omitempty"`
	Target    *ProofSide `json:"target,omitempty"`
	Log       []string   `json:"log,omitempty"` // what the kernel said meanwhile, the drivers' own words
}

// ProofSide is where one end of a transfer was, for people: the key is what
// decides.
type ProofSide struct {
	Host   string          `json:"host"`
	Parent string          `json:"parent"`
	Kernel inventory.Value `json:"kernel,omitzero"`
	Build  []Part          `json:"build"`
}

// About is a proof of a transfer from the device to the offer, with all filled
// in that says what it is about. It is an error that a part of that is not
// known: then no proof can be made.
func (e *Engine) About(s *Source, o *Offer) (Proof, error) {
	for _, end := range []*side{&s.side, &o.side} {
		switch {
		case end.build.ID == "":
			return Proof{}, fmt.Errorf("%s on %s: %s: %s could not be read", end.name.Full(), end.inv.Host.Name, end.parent.Name, firstOf(end.build.Missing))
		case !end.shaped:
			return Proof{}, fmt.Errorf("%s on %s: %s: an attribute that shapes the stream was not observed", end.name.Full(), end.inv.Host.Name, end.parent.Name)
		}
	}
	return Proof{
		SourceType: s.name, TargetType: o.name,
		SourceBuild: s.build.ID, TargetBuild: o.build.ID,
		SourceShape: s.shape, TargetShape: o.shape,
		Source: s.side.proofSide(), Target: o.side.proofSide(),
		Simulated: s.simulated() || o.simulated(),
	}, nil
}

// simulated reports whether the side's machine does not exist.
func (s *side) simulated() bool { return s.inv.Origin == inventory.FromSimulator }

func (s *side) proofSide() *ProofSide {
	return &ProofSide{Host: s.inv.Host.Name, Parent: s.parent.Name, Kernel: s.inv.Host.Kernel.Release, Build: slices.Clone(s.build.Parts)}
}

// Policy is how proofs count for a type, as its catalog says it; without a
// catalog nothing is known.
func (e *Engine) Policy(t inventory.TypeName) ProofPolicy {
	p := ProofPolicy{Lowest: WorkingState, Canaries: CanariesUnknown, Truncated: inventory.Unknown}
	c := e.catalogs.For(t.Namespace)
	if c == nil {
		return p
	}
	given := c.Proof
	given.Lowest = cmp.Or(given.Lowest, p.Lowest)
	given.Canaries = cmp.Or(given.Canaries, p.Canaries)
	given.Truncated = cmp.Or(given.Truncated, p.Truncated)
	given.Exercise, given.Observe = given.Exercises(t.Name), given.Observes(t.Name)
	return given
}

// Provable reports whether a proof is all that the verdict waits for.
func (v *Verdict) Provable() bool {
	if v.Outcome != Unknown {
		return false
	}
	for i := range v.Findings {
		f := &v.Findings[i]
		if f.Outcome == Unknown && f.Code != BuildUnproven && f.Code != EquivalenceUnproven {
			return false
		}
	}
	return true
}

// Key is what the proof is about, as one word for comparing and for naming
// files: direction, types, builds and what shapes the stream.
func (p *Proof) Key() string {
	digest := sha256.New()
	for _, text := range []string{p.SourceType.Namespace, p.SourceType.Name, p.TargetType.Namespace, p.TargetType.Name, p.SourceBuild, p.TargetBuild, p.SourceShape, p.TargetShape} {
		fmt.Fprintf(digest, "%q", text)
	}
	return hex.EncodeToString(digest.Sum(nil)[:16])
}

// result is what the proof counts as.
func (p *Proof) result() Result {
	if p.Result == Rejected && (p.Tries < 2 || !p.Controls && !p.OfItself()) {
		return Inconclusive
	}
	return p.Result
}

// counts is what the proof counts as for a driver that takes truncated states, or
// does not: of one that does, acceptance shows nothing unless what a guest sees
// was compared, or a VM moved.
func (p *Proof) counts(lowest Grade, truncated bool) Result {
	result := p.result()
	if result == Accepted && truncated && !p.Verified && p.Grade >= lowest && p.Grade < Observed {
		return Inconclusive
	}
	return result
}

// OfItself reports whether both ends are one type of one build: then the
// transfer is its own control, and one that fails each time shows that the
// build does not take its own state.
func (p *Proof) OfItself() bool {
	return p.SourceType == p.TargetType && p.SourceBuild == p.TargetBuild && p.SourceShape == p.TargetShape
}

// proofKey is what a proof is about: direction, types, builds and everything
// that shapes the stream.
type proofKey struct {
	sourceType, targetType                             inventory.TypeName
	sourceBuild, targetBuild, sourceShape, targetShape string
}

// indexProofs lists the proofs for each key, newest first. Of two of the same
// moment the worse one comes first, and then the text decides: never their
// order.
func indexProofs(list []Proof) map[proofKey][]*Proof {
	index := make(map[proofKey][]*Proof, len(list))
	for i := range list {
		p := &list[i]
		key := proofKey{p.SourceType, p.TargetType, p.SourceBuild, p.TargetBuild, p.SourceShape, p.TargetShape}
		index[key] = append(index[key], p)
	}
	for _, proofs := range index {
		slices.SortFunc(proofs, func(p, q *Proof) int { return q.compare(p) })
	}
	return index
}

// newest is the newest proof that settles something: a rejection, or an
// acceptance of at least the lowest grade that counts. What was inconclusive,
// or exercised too little, does not undo what an earlier proof showed. Where
// none settles anything, it is the newest. A proof in which no kernel took part
// says nothing of two machines that exist.
func newest(proofs []*Proof, lowest Grade, truncated, simulated bool) *Proof {
	var first *Proof
	for _, p := range proofs {
		if p.Simulated && !simulated {
			continue
		}
		if result := p.counts(lowest, truncated); result == Rejected || result == Accepted && p.Grade >= lowest {
			return p
		}
		if first == nil {
			first = p
		}
	}
	return first
}

// compare is positive when p counts before q.
func (p *Proof) compare(q *Proof) int {
	weight := map[Result]int{Accepted: 0, Inconclusive: 1, Rejected: 2}
	return cmp.Or(
		p.Time.Compare(q.Time),
		cmp.Compare(weight[p.result()], weight[q.result()]),
		cmp.Compare(q.Grade, p.Grade),
		cmp.Compare(q.Detail, p.Detail),
		cmp.Compare(q.Tries, p.Tries),
	)
}

// shape is the text of the attributes that shape the stream, in a fixed order.
// ok is false while one of them was not observed.
func shape(names []string, attrs *inventory.Attributes) (text string, ok bool) {
	var b strings.Builder
	for _, name := range slices.Sorted(slices.Values(names)) {
		v := attrs.Get(name)
		if v.State() == inventory.NotObserved {
			return "", false
		}
		fmt.Fprintf(&b, "%q=%d%q;", name, v.State(), v.Text())
	}
	return b.String(), true
}
