// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"slices"

	"kindred/inventory"
)

// Check judges whether the device could migrate to an instance of the offer.
func (e *Engine) Check(s *Source, o *Offer) Verdict {
	j := judgement{engine: e, explain: true, from: s, to: o}
	e.judge(&j)
	v := Verdict{Outcome: j.outcome, Host: o.Host(), Parent: o.Parent(), Type: o.name, Copy: j.copy, Findings: j.findings, Lifted: j.lifted}
	for i := range v.Findings {
		v.Findings[i].Remedy = v.Findings[i].Code.Remedy()
	}
	return v
}

// NotOffered is the verdict on a host of which no type comes into question. It
// is unknown while the host has a parent whose types could not be listed.
func NotOffered(s *Source, inv *inventory.Inventory) Verdict {
	f := Finding{Code: TypeNotOffered, Outcome: Incompatible, Subject: s.name.Full(), From: builtInFrom}
	if inv.ParentsUnread || slices.ContainsFunc(inv.Parents, func(p inventory.Parent) bool { return p.TypesUnread }) {
		f.Code, f.Outcome = TypeUnlisted, Unknown
	}
	f.Remedy = f.Code.Remedy()
	return Verdict{Outcome: f.Outcome, Host: inv.Host.Name, Findings: []Finding{f}}
}

// Outcome is Check's outcome alone, without allocation.
func (e *Engine) Outcome(s *Source, o *Offer) Outcome {
	j := judgement{engine: e, from: s, to: o}
	e.judge(&j)
	return j.outcome
}

// judgement collects findings; without explain, only the worst outcome.
type judgement struct {
	engine   *Engine
	from     *Source
	to       *Offer
	explain  bool
	outcome  Outcome
	findings []Finding
	copy     map[string]string
	lifted   []Code
	// What a proof can lift is held back until the proofs were asked.
	unproven, unequal bool
}

func (j *judgement) add(f Finding) {
	j.outcome = max(j.outcome, f.Outcome)
	if j.explain {
		j.findings = append(j.findings, f)
	}
}

func (e *Engine) judge(j *judgement) {
	if !e.identity(j) {
		return // nothing further can be compared between different types
	}
	j.api()
	j.migration()
	j.attributes()
	j.builds()
	j.knownBad()
	e.proof(j)
}

// identity judges whether both types are one interface. It returns false when
// they are not: the rules of one type say nothing about another.
func (e *Engine) identity(j *judgement) bool {
	s, o := &j.from.side, &j.to.side
	f := Finding{Code: TypeSame, From: builtInFrom}
	if j.explain {
		f.Subject = o.name.Full()
		f.Source, f.Target = inventory.Of(s.name.Full()), inventory.Of(o.name.Full())
	}
	byLabel := s.catalog != nil && s.catalog.Identity == ByLabel && s.name.Namespace == o.name.Namespace
	if byLabel {
		f.Source, f.Target = s.label, o.label
	}
	switch {
	case s.name.Namespace == "" || s.name.Name == "" || o.name.Namespace == "" || o.name.Name == "":
		f.Code, f.Outcome = TypeUnknown, Unknown
	case byLabel && (s.label.State() != inventory.Present || o.label.State() != inventory.Present):
		f.Code, f.Outcome = TypeUnknown, Unknown
	case byLabel && s.label == o.label, !byLabel && s.name == o.name:
	case e.equivalent(s.name, o.name):
		j.unequal = true
		e.contractType(j, false)
		return true
	default:
		f.Code, f.Outcome = TypeDifferent, Incompatible
		j.add(f)
		return false
	}
	j.add(f)
	if f.Outcome == Unknown {
		return false
	}
	e.contractType(j, byLabel)
	return true
}

// contractType judges the type that the guest was started with.
func (e *Engine) contractType(j *judgement, byLabel bool) {
	c := j.from.contract
	f := Finding{Basis: Promised, From: builtInFrom}
	switch {
	case j.from.unread,
		c != nil && (c.Type.Namespace == "" || c.Type.Name == ""),
		c != nil && byLabel && c.Label.State() != inventory.Present:
		f.Code, f.Outcome = ContractUnread, Unknown
	case c == nil,
		byLabel && c.Label == j.to.label && c.Type.Namespace == j.to.name.Namespace,
		!byLabel && c.Type == j.to.name,
		j.unequal && c.Type == j.from.name: // equivalence is judged by proof
		return
	case e.equivalent(c.Type, j.to.name):
		// The device came here as an equivalent of what was promised. No proof
		// at hand is about the build that the promise was made on.
		f.Code, f.Outcome = EquivalenceUnproven, Unknown
	default:
		f.Code, f.Outcome = ContractType, Incompatible
	}
	if j.explain && f.Code != ContractUnread {
		f.Source, f.Target = inventory.Of(c.Type.Full()), inventory.Of(j.to.name.Full())
	}
	j.add(f)
}

// equivalent reports whether a catalog of either type declares both to be one
// interface.
func (e *Engine) equivalent(a, b inventory.TypeName) bool {
	for _, namespace := range [2]string{a.Namespace, b.Namespace} {
		c := e.catalogs.For(namespace)
		if c == nil {
			continue
		}
		for i := range c.Equivalent {
			types := c.Equivalent[i].Types
			if slices.Contains(types, FullName{a.Namespace, a.Name}) && slices.Contains(types, FullName{b.Namespace, b.Name}) {
				return true
			}
		}
	}
	return false
}

// Equivalents lists the types that some catalog declares one interface with a
// type.
func (e *Engine) Equivalents(name inventory.TypeName) []inventory.TypeName {
	var list []inventory.TypeName
	for _, c := range e.catalogs.byNamespace {
		for i := range c.Equivalent {
			if !slices.Contains(c.Equivalent[i].Types, FullName(name)) {
				continue
			}
			for _, n := range c.Equivalent[i].Types {
				if FullName(name) != n && !slices.Contains(list, inventory.TypeName(n)) {
					list = append(list, inventory.TypeName(n))
				}
			}
		}
	}
	slices.SortFunc(list, inventory.TypeName.Compare)
	return list
}

func (j *judgement) api() {
	compare := func(basis Basis, s, t inventory.Value) {
		f := Finding{Code: APIEqual, Basis: basis, Source: s, Target: t, From: builtInFrom}
		switch {
		case s.State() != inventory.Present || t.State() != inventory.Present:
			f.Code, f.Outcome = APIUnknown, Unknown
		case s != t:
			f.Code, f.Outcome = APIDifferent, Incompatible
		}
		j.add(f)
	}
	compare(Now, j.from.api, j.to.api)
	if c := j.from.contract; c != nil {
		compare(Promised, c.DeviceAPI, j.to.api)
	}
}

func (j *judgement) migration() {
	for i, s := range [2]*side{&j.from.side, &j.to.side} {
		f := Finding{Code: MigrationSupported, Subject: [2]string{"source", "target"}[i], From: s.canFrom}
		switch s.can {
		case inventory.Yes:
		case inventory.No:
			f.Code, f.Outcome = MigrationUnsupported, Incompatible
		default:
			f.Code, f.Outcome = MigrationUnknown, Unknown
		}
		j.add(f)
	}
}

// attributes judges every rule of the source's catalog, then the attributes
// that no rule is about.
func (j *judgement) attributes() {
	s, o := &j.from.side, &j.to.side
	// The offer's values stand ready for the rules of its own type. For
	// another type, declared equivalent, they are looked up.
	own := s.sameRules(o)
	for i, r := range s.rules {
		if r.Of == OfDescription && j.unequal {
			continue // it says what a name means, and these are two names
		}
		var target taken
		if own {
			target = j.to.takes[i]
		} else {
			target = o.taken(r)
		}
		values := &j.from.values[i]
		j.rule(r, Now, values.now, target.value, target.high)
		if values.isPromised && (j.explain || values.promised != values.now) {
			j.rule(r, Promised, values.promised, target.value, target.high)
		}
	}
	c := j.from.contract
	if !s.attrs.Complete {
		j.add(Finding{Code: AttributesIncomplete, Outcome: Unknown, Subject: "source"})
	}
	if !o.attrs.Complete {
		j.add(Finding{Code: AttributesIncomplete, Outcome: Unknown, Subject: "target"})
	}
	if c != nil && !c.TypeAttributes.Complete {
		j.add(Finding{Code: AttributesIncomplete, Outcome: Unknown, Subject: "contract", Basis: Promised})
	}
	theirs := o.free
	if !own {
		theirs = j.to.names // the target's rules are others
	}
	j.unjudged(Now, s.attrs, s.free, theirs)
	if c != nil {
		j.unjudged(Promised, &c.TypeAttributes, j.from.promised, theirs)
	}
	j.instance()
}

// unjudged makes attributes without a rule unknown where they differ: nobody
// said whether the guest sees them. ours are those that the source has, theirs
// those of the target; both are sorted by name.
func (j *judgement) unjudged(basis Basis, source *inventory.Attributes, ours, theirs []named) {
	for len(ours) > 0 || len(theirs) > 0 {
		var name string
		var sv, tv inventory.Value
		switch {
		case len(theirs) == 0 || len(ours) > 0 && ours[0].name < theirs[0].name:
			name, sv = ours[0].name, ours[0].value
			tv = j.to.attrs.Get(name)
			ours = ours[1:]
		case len(ours) == 0 || theirs[0].name < ours[0].name:
			name, tv = theirs[0].name, theirs[0].value
			sv = source.Get(name)
			theirs = theirs[1:]
		default:
			name, sv, tv = ours[0].name, ours[0].value, theirs[0].value
			ours, theirs = ours[1:], theirs[1:]
		}
		if sv == tv && sv.State() != inventory.NotObserved || j.from.judges(name) {
			continue
		}
		f := Finding{Code: AttributeUnjudged, Outcome: Unknown, Subject: name, Basis: basis, Source: sv, Target: tv, From: builtInFrom}
		if sv.State() == inventory.NotObserved || tv.State() == inventory.NotObserved {
			f.Code = AttributeUnobserved
		}
		j.add(f)
	}
}

// instance makes the device's own attributes unknown unless a rule says
// whether they have to be carried over.
func (j *judgement) instance() {
	d := j.from.device
	if d == nil {
		return
	}
	if !d.Complete {
		j.add(Finding{Code: AttributesIncomplete, Outcome: Unknown, Subject: "device"})
	}
	for _, name := range j.from.uncovered {
		j.add(Finding{Code: AttributeUnjudged, Outcome: Unknown, Subject: name, Basis: Now, Source: d.Get(name), From: builtInFrom})
	}
}

func (j *judgement) rule(r *Rule, basis Basis, source, target, high inventory.Value) {
	if r.Kind == Ignore {
		return
	}
	code, outcome := r.judge(source, target, high)
	set := source // what copy sets on the target
	if r.Kind == Copy && source.State() != inventory.NotObserved {
		if units, per := j.ratio(r, basis); units != per {
			set, code, outcome = j.scaled(r, source, units, per)
		}
	}
	if !j.explain {
		j.outcome = max(j.outcome, outcome)
		return
	}
	if code == AttributeCopied {
		if j.copy == nil {
			j.copy = make(map[string]string)
		}
		// What was promised wins over what is now.
		if _, ok := j.copy[r.Attribute]; !ok || basis == Promised {
			j.copy[r.Attribute] = set.Text()
		}
	}
	if r.Kind == Copy { // there is nothing on the target yet
		if target = (inventory.Value{}); set != source {
			target = set
		}
	}
	if r.Kind == Range && target.State() == inventory.Present && high.State() == inventory.Present {
		target = inventory.Of(target.Text() + ".." + high.Text())
	}
	j.add(Finding{Code: code, Outcome: outcome, Subject: r.Attribute, Basis: basis, Source: source, Target: target, Rule: string(r.Kind), From: r.Source})
}

// Related reports whether the two types could be one interface, or it is not
// known that they are not: where they are not related, the verdict is the one
// finding that different types are different.
func (e *Engine) Related(s *Source, o *Offer) bool {
	j := judgement{engine: e, from: s, to: o}
	return e.identity(&j) || j.outcome != Incompatible
}
