// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"slices"

	"kindred/inventory"
)

// builds judges whether both ends run code with the same stream.
func (j *judgement) builds() {
	s, o := &j.from.build, &j.to.build
	f := Finding{Code: BuildEqual, From: builtInFrom}
	switch {
	case s.ID == "" || o.ID == "":
		f.Code, f.Outcome = BuildUnknown, Unknown
		if j.explain {
			f.Subject = firstOf(append(slices.Clone(s.Missing), o.Missing...))
		}
	case s.ID == o.ID:
	default:
		f = j.differentBuilds(s, o)
	}
	if j.explain && f.Source.State() == inventory.NotObserved && s.ID != "" && o.ID != "" {
		f.Source, f.Target = inventory.Of(s.Short()), inventory.Of(o.Short())
	}
	if f.Code == BuildUnproven {
		j.unproven = true
		return // a proof may lift it
	}
	j.add(f)
}

func firstOf(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// differentBuilds looks for a stream epoch, then for a version rule.
func (j *judgement) differentBuilds(s, o *Build) Finding {
	unproven := Finding{Code: BuildUnproven, Outcome: Unknown, From: builtInFrom}
	c := j.from.catalog
	if c == nil || j.unequal {
		return unproven
	}
	for i := range c.Epochs {
		if anyMatches(c.Epochs[i].Builds, s) && anyMatches(c.Epochs[i].Builds, o) {
			return Finding{Code: BuildEpoch, Subject: c.Epochs[i].Name, From: c.Epochs[i].Source}
		}
	}
	if len(c.Build.Versions) == 0 || len(s.Parts) != len(o.Parts) {
		return unproven
	}
	// One part that a rule refuses refuses the build, whatever the others are.
	answer, proven := Finding{Code: BuildAccepted}, true
	for i := range s.Parts {
		if s.Parts[i] == o.Parts[i] {
			continue
		}
		version := slices.IndexFunc(c.Build.Versions, func(v VersionRule) bool { return v.Part == s.Parts[i].Name })
		if version < 0 || s.Parts[i].Name != o.Parts[i].Name {
			proven = false
			continue
		}
		v := &c.Build.Versions[version]
		rule := Rule{Kind: v.Rule}
		_, outcome := rule.judge(s.Parts[i].Value, o.Parts[i].Value, inventory.Value{})
		answer.Subject, answer.Rule, answer.From = v.Part, string(v.Rule), v.Source
		switch outcome {
		case Incompatible:
			answer.Code, answer.Outcome, answer.Source, answer.Target = BuildRefused, Incompatible, s.Parts[i].Value, o.Parts[i].Value
			return answer
		case Unknown:
			proven = false
		}
	}
	if !proven {
		return unproven
	}
	return answer
}

func (j *judgement) knownBad() {
	for i, s := range [2]*side{&j.from.side, &j.to.side} {
		if s.catalog == nil {
			continue
		}
		role := [2]string{"source", "target"}[i]
		for k := range s.catalog.KnownBad {
			bad := &s.catalog.KnownBad[k]
			if (bad.Role == "" || bad.Role == "both" || bad.Role == role) && anyMatches(bad.Builds, &s.build) {
				f := Finding{Code: BuildKnownBad, Outcome: Incompatible, Subject: role, Rule: bad.Reason, From: bad.Source}
				if j.explain {
					f.Source = inventory.Of(s.build.Short())
				}
				j.add(f)
			}
		}
	}
}

// proof asks the proofs about this pair. An acceptance lifts what only a
// proof can lift; a rejection makes the pair incompatible.
func (e *Engine) proof(j *judgement) {
	s, o := &j.from.side, &j.to.side
	lowest := WorkingState
	if s.catalog != nil && s.catalog.Proof.Lowest != 0 {
		lowest = s.catalog.Proof.Lowest
	}
	truncated := s.catalog != nil && s.catalog.Proof.Truncated == inventory.Yes
	var p *Proof
	if !s.shaped || !o.shaped {
		j.add(Finding{Code: AttributeUnobserved, Outcome: Unknown, Subject: "what shapes the stream", From: builtInFrom})
	}
	if s.build.ID != "" && o.build.ID != "" && s.shaped && o.shaped {
		p = newest(e.proofs[proofKey{s.name, o.name, s.build.ID, o.build.ID, s.shape, o.shape}], lowest, truncated, s.simulated() || o.simulated())
	}
	lifted := false
	if p != nil {
		f := Finding{From: proofFrom, Rule: p.Detail}
		switch result := p.counts(lowest, truncated); {
		case result == Rejected:
			f.Code, f.Outcome = ProofRejected, Incompatible
		case result == Accepted && p.Grade >= lowest:
			f.Code, lifted = ProofAccepted, true
		case result == Accepted:
			f.Code = ProofTooWeak
		default:
			f.Code = ProofInconclusive
		}
		if j.explain {
			f.Subject = p.Grade.String()
		}
		j.add(f)
	}
	j.lift(j.unequal, lifted, EquivalenceUnproven, TypeEquivalent)
	j.lift(j.unproven, lifted, BuildUnproven, BuildProved)
}

// lift adds a held-back unknown, or what it became through a proof.
func (j *judgement) lift(held, lifted bool, unknown, settled Code) {
	if !held {
		return
	}
	f := Finding{Code: unknown, Outcome: Unknown, From: builtInFrom}
	if lifted {
		f = Finding{Code: settled, From: proofFrom}
		if j.explain {
			j.lifted = append(j.lifted, unknown)
		}
	}
	if j.explain {
		if unknown == BuildUnproven {
			f.Source, f.Target = inventory.Of(j.from.build.Short()), inventory.Of(j.to.build.Short())
		} else {
			f.Source, f.Target = inventory.Of(j.from.name.Full()), inventory.Of(j.to.name.Full())
		}
	}
	j.add(f)
}
