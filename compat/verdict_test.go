// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"reflect"
	"testing"

	"kindred/inventory"
)

// Each test here is a verdict that was wrong once, by the principle it names.

func wantOutcome(t *testing.T, p *pair, want Outcome) {
	t.Helper()
	v := p.check(t)
	if v.Outcome == want {
		return
	}
	t.Errorf("%s, want %s; findings:", v.Outcome, want)
	for i := range v.Findings {
		t.Logf("  %-12s %-22s %s", v.Findings[i].Outcome, v.Findings[i].Code, v.Findings[i].Text())
	}
}

// A missing fact is unknown (principle 6), not incompatible.
func TestContractLabelNotObserved(t *testing.T) {
	p := newPair()
	p.catalog.Identity = ByLabel
	p.promise()
	p.contract().Label = inventory.Value{}
	wantOutcome(t, p, Unknown)
}

// A type is its namespace and name (principle 1): a label of another driver's
// is not the same promise.
func TestContractLabelOfAnotherNamespace(t *testing.T) {
	p := newPair()
	p.catalog.Identity = ByLabel
	p.promise()
	p.contract().Type.Namespace = "nt"
	wantOutcome(t, p, Incompatible)
}

func TestContractTypeNotRead(t *testing.T) {
	p := newPair()
	p.promise()
	p.contract().Type = inventory.TypeName{}
	wantOutcome(t, p, Unknown)
}

// After a proved move from t to u the guest lives on u with a contract for t.
// Both are declared one interface: a further move to u is not refused for
// good (principles 3 and 11).
func TestContractOfEquivalentType(t *testing.T) {
	p := newPair()
	p.equivalent()
	p.fromType().Name, p.device().Type.Name = "u", "u"
	p.promise()
	p.contract().Type.Name = "t"
	if v := p.check(t); v.Outcome == Incompatible {
		t.Errorf("%s: %s", v.Outcome, v.Worst().Text())
	}
}

// A target must satisfy what was promised too (principle 11), and an attribute
// without a rule is unknown where it differs.
func TestContractAttributeWithoutRule(t *testing.T) {
	p := newPair()
	p.fromType().Attributes.Set("b", "2")
	p.toType().Attributes.Set("b", "2")
	p.promise()
	p.contract().TypeAttributes.Set("b", "1")
	wantOutcome(t, p, Unknown)
}

func TestContractAttributesNotRead(t *testing.T) {
	p := newPair()
	p.catalog.Rules = nil
	p.promise()
	p.contract().TypeAttributes = inventory.Attributes{}
	wantOutcome(t, p, Unknown)
}

// Evidence that does not say yes is not yes. Documents that leave "can" out
// decode to the empty answer.
func TestEmptyAnswerIsNotYes(t *testing.T) {
	p := newPair()
	p.catalog.Migration = nil
	p.fromType().Migration = &inventory.Migration{Source: "debugfs"}
	p.toType().Migration = &inventory.Migration{Source: "debugfs"}
	wantOutcome(t, p, Unknown)
}

// A device that does not say leaves what its type says.
func TestUnknownEvidenceHidesNothing(t *testing.T) {
	p := newPair()
	p.catalog.Migration = nil
	p.fromType().Migration = &inventory.Migration{Can: inventory.No, Source: "debugfs"}
	p.toType().Migration = &inventory.Migration{Can: inventory.Yes, Source: "debugfs"}
	p.device().Migration = &inventory.Migration{Can: inventory.Unknown, Source: "probe"}
	wantOutcome(t, p, Incompatible)
}

// The shape of the stream is not known, so whether the rejection is about this
// pair is not known either: it was incompatible with the attribute observed.
func TestRejectionWithShapeNotObserved(t *testing.T) {
	p := newPair()
	p.catalog.Proof.Shaping = []string{"a"}
	p.rule(attributeRule(Ignore))
	e := p.engine(t, nil)
	rejected := proofOf(e.Source(p.from, p.device()), e.Offers(p.to)[0])
	rejected.Result = Rejected
	p.prove = func(*Source, *Offer) []Proof { return []Proof{rejected} }
	wantOutcome(t, p, Incompatible)
	p.toType().Attributes.Forget("a")
	wantOutcome(t, p, Unknown)
}

// The worst finding is the outcome: a part that a version rule refuses is
// refused whatever the parts before it in the alphabet are.
func TestVersionRuleAfterAnotherPart(t *testing.T) {
	p := newPair()
	firmwareBuild(p, "1.2", "1.1", SemVer)
	p.catalog.Build.Facts = []string{"mgr"} // fact: is before firmware:
	p.from.Host.Facts = inventory.Facts{"mgr": {Value: inventory.Of("1")}}
	p.to.Host.Facts = inventory.Facts{"mgr": {Value: inventory.Of("2")}}
	wantOutcome(t, p, Incompatible)
}

// An attribute of the target that only the target's rules are about is not
// judged by anyone: the source's catalog is silent, and it differs.
func TestTargetAttributeUnderAnotherCatalog(t *testing.T) {
	p := newPair()
	p.toTypeNamed("nt", "t")
	p.catalog.Equivalent = []Equivalence{{Types: []FullName{{"ns", "t"}, {"nt", "t"}}}}
	p.other = newCatalog()
	p.other.Name, p.other.Namespaces = "other", []string{"nt"}
	p.other.Rules = append(p.other.Rules, Rule{Attribute: "b", Of: OfType, Kind: Equal})
	p.toType().Attributes.Set("b", "1")
	p.proved(func(*Proof) {})
	wantOutcome(t, p, Unknown)
}

// Known absent is known absent, written out or not.
func TestDeviceAttributeKnownAbsent(t *testing.T) {
	p := newPair()
	p.device().Attributes.Values = map[string]inventory.Value{"x": inventory.None()}
	wantOutcome(t, p, Compatible)
}

// A copy rule whose attribute is a glob covers attributes, and copies none.
func TestCopyByGlob(t *testing.T) {
	p := newPair()
	p.catalog.Rules = append(p.catalog.Rules, Rule{Attribute: "vendor/*", Of: OfDevice, Kind: Copy})
	p.device().Attributes.Set("vendor/x", "1")
	if v := p.check(t); v.Outcome == Compatible && v.Copy["vendor/x"] != "1" {
		t.Errorf("%s, and what is copied is %v", v.Outcome, v.Copy)
	}
}

// Numbers are decimal unless they begin with 0x, and two that differ are not
// equal.
func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		source, target string
		want           Outcome
	}{
		{"010", "9", Incompatible}, // ten is more than nine
		{"08", "8", Compatible},
		{"010", "10", Compatible},
		{"0b1", "1", Unknown},
		{"1_0", "10", Unknown},
		{"18446744073709551615", "18446744073709551614", Incompatible},
	} {
		r := Rule{Kind: AtLeast, Form: Number}
		if _, got := r.judge(inventory.Of(c.source), inventory.Of(c.target), inventory.Value{}); got != c.want && !(got == Unknown && len(c.source) > 16) {
			t.Errorf("at-least %s -> %s: %s, want %s", c.source, c.target, got, c.want)
		}
	}
	r := Rule{Kind: Superset, Form: BitMask}
	if _, got := r.judge(inventory.Of("010"), inventory.Of("8"), inventory.Value{}); got == Compatible {
		t.Error("superset as bits: 010 was read as octal")
	}
}

// Of proofs of one moment that count the same, the verdict may not depend on
// the order they were given in.
func TestProofsOfOneMoment(t *testing.T) {
	p := newPair()
	e := p.engine(t, nil)
	s, o := e.Source(p.from, p.device()), e.Offers(p.to)[0]
	a, b := proofOf(s, o), proofOf(s, o)
	a.Detail, b.Detail = "EINVAL", "ENOSPC"
	v, w := p.engine(t, []Proof{a, b}).Check(s, o), p.engine(t, []Proof{b, a}).Check(s, o)
	if !reflect.DeepEqual(v, w) {
		t.Errorf("another order, another verdict:\n%+v\n%+v", v.Findings, w.Findings)
	}
}
