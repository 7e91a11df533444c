// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"fmt"
	"strings"
	"testing"

	"kindred/inventory"
)

var (
	absent = inventory.None()
	unseen = inventory.Value{}
	of     = inventory.Of
)

func TestRuleTexts(t *testing.T) {
	yes := AttributeAccepted
	for _, c := range []struct {
		kind           RuleKind
		form           Form
		source, target string
		want           Code
	}{
		{Equal, Text, "a", "a", yes},
		{Equal, Text, "a", "A", AttributeDiffers},
		{Equal, Text, "16", "0x10", AttributeDiffers},
		{Equal, Text, "a,b", "b,a", AttributeDiffers},
		{Equal, Text, "", "", yes},
		{Equal, "", "a b", "a b", yes},
		{Equal, Number, "16", "0x10", yes},
		{Equal, Number, "1.5", "1.50", yes},
		{Equal, Number, "16", "17", AttributeDiffers},
		{Equal, Number, "-1", "-1", yes},
		{Equal, Number, "-1", "1", AttributeDiffers},
		{Equal, Number, "1", "one", AttributeMalformed},
		{Equal, Number, "", "1", AttributeMalformed},
		{Equal, Number, "NaN", "NaN", AttributeMalformed},
		{Equal, Number, "1e3", "1000", AttributeMalformed},
		{Equal, Number, "Inf", "Inf", AttributeMalformed},
		{Equal, List, "a,b", "b a", yes},
		{Equal, List, "a,b,a", "b\ta", yes},
		{Equal, List, "a,b", "a", AttributeDiffers},
		{Equal, List, "a", "a,b", AttributeDiffers},
		{Equal, List, "", " , ", yes},

		{Superset, List, "a b", "c,b,a", yes},
		{Superset, List, "a b", "a c", AttributeLacks},
		{Superset, List, "", "", yes},
		{Superset, List, "", "a", yes},
		{Superset, List, "a", "", AttributeLacks},
		{Superset, List, "ab", "a b", AttributeLacks},
		{Superset, "", "a", "a\nb", yes},
		{Superset, BitMask, "0x3", "7", yes},
		{Superset, BitMask, "0x8", "7", AttributeLacks},
		{Superset, BitMask, "0", "0", yes},
		{Superset, BitMask, "0xffffffffffffffff", "0xffffffffffffffff", yes},
		{Superset, BitMask, "0xffffffffffffffff", "0xfffffffffffffffe", AttributeLacks},
		{Superset, BitMask, "0x1ffffffffffffffff", "0xffffffffffffffff", AttributeMalformed},
		{Superset, BitMask, "-1", "1", AttributeMalformed},
		{Superset, BitMask, "3", "three", AttributeMalformed},

		{AtLeast, Number, "8", "8", yes},
		{AtLeast, Number, "8", "0x9", yes},
		{AtLeast, Number, "8", "7.5", AttributeTooLow},
		{AtLeast, Number, "9", "10", yes}, // as numbers, not as text
		{AtLeast, Number, "8 GiB", "9 GiB", AttributeMalformed},
		{AtLeast, Number, "8", "", AttributeMalformed},
		{AtMost, Number, "8", "8", yes},
		{AtMost, Number, "8", "7", yes},
		{AtMost, Number, "8", "9", AttributeTooHigh},
		{AtMost, Number, "--1", "1", AttributeMalformed},

		{SemVer, "", "1.2", "1.2.7", yes},
		{SemVer, "", "1.2.9", "1.2.0", yes}, // a bug fix is not compared
		{SemVer, "", "1.9", "1.10", yes},
		{SemVer, "", "1.10", "1.9", VersionOlder},
		{SemVer, "", "1.2", "2.0", VersionMajor},
		{SemVer, "", "2.0", "1.9", VersionMajor},
		{SemVer, "", "1", "1.0", AttributeMalformed},
		{SemVer, "", "v1.2", "1.2", AttributeMalformed},
		{SemVer, "", "1.2", "1.", AttributeMalformed},
		{SemVer, "", "1.2", "1.2.", AttributeMalformed},
		{SemVer, "", "", "1.2", AttributeMalformed},
		{SemVer, "", "1.-2", "1.2", AttributeMalformed},

		{OneOf, "", "a", "b a", yes},
		{OneOf, "", "a", "b,c", AttributeNotListed},
		{OneOf, "", "a", "", AttributeNotListed},
		{OneOf, "", "a", "ab", AttributeNotListed},
	} {
		r := Rule{Kind: c.kind, Form: c.form}
		got, outcome := r.judge(of(c.source), of(c.target), unseen)
		if got != c.want {
			t.Errorf("%s as %s of %q -> %q: %s, want %s", c.kind, c.form, c.source, c.target, got, c.want)
		}
		if want := outcomeOf(c.want); outcome != want {
			t.Errorf("%s as %s of %q -> %q: %s, want %s", c.kind, c.form, c.source, c.target, outcome, want)
		}
	}
}

// outcomeOf is the outcome that belongs to a code of a rule.
func outcomeOf(code Code) Outcome {
	switch code {
	case AttributeAccepted, AttributeCopied:
		return Compatible
	case AttributeMalformed, AttributeUnobserved, AttributeAbsent:
		return Unknown
	}
	return Incompatible
}

func TestRuleRange(t *testing.T) {
	for _, c := range []struct {
		source, low, high string
		want              Code
	}{
		{"2", "2", "4", AttributeAccepted},
		{"4", "2", "4", AttributeAccepted},
		{"0x3", "2", "4", AttributeAccepted},
		{"1", "2", "4", AttributeOutOfRange},
		{"5", "2", "4", AttributeOutOfRange},
		{"3", "4", "2", AttributeMalformed}, // no number lies in it
		{"x", "2", "4", AttributeMalformed},
		{"3", "x", "4", AttributeMalformed},
		{"3", "2", "x", AttributeMalformed},
	} {
		r := Rule{Kind: Range}
		if got, _ := r.judge(of(c.source), of(c.low), of(c.high)); got != c.want {
			t.Errorf("%s in %s..%s: %s, want %s", c.source, c.low, c.high, got, c.want)
		}
	}
}

// TestRuleStates judges every kind of rule on every pair of states, under each
// meaning of absence.
func TestRuleStates(t *testing.T) {
	const yes, unobserved, noMeaning = AttributeAccepted, AttributeUnobserved, AttributeAbsent
	kinds := []RuleKind{Equal, Superset, AtLeast, AtMost, SemVer, OneOf}
	// What "off" means when only one side is without the attribute.
	sourceOff := map[RuleKind]Code{Equal: AttributeDiffers, Superset: yes, AtLeast: yes, AtMost: AttributeTooHigh, SemVer: AttributeDiffers, OneOf: yes}
	targetOff := map[RuleKind]Code{Equal: AttributeDiffers, Superset: AttributeLacks, AtLeast: AttributeTooLow, AtMost: yes, SemVer: AttributeDiffers, OneOf: AttributeNotListed}
	value := of("1.2")
	for _, kind := range kinds {
		for _, c := range []struct {
			source, target inventory.Value
			unknown, off   Code
			same           Code // by default 1.2
		}{
			{value, value, yes, yes, yes},
			{value, absent, noMeaning, targetOff[kind], yes},
			{value, unseen, unobserved, unobserved, unobserved},
			{absent, value, noMeaning, sourceOff[kind], yes},
			{absent, absent, noMeaning, yes, yes},
			{absent, unseen, unobserved, unobserved, unobserved},
			{unseen, value, unobserved, unobserved, unobserved},
			{unseen, absent, unobserved, unobserved, unobserved},
			{unseen, unseen, unobserved, unobserved, unobserved},
		} {
			for absence, want := range map[Absence]Code{{}: c.unknown, {Off: true}: c.off, {Default: "1.2"}: c.same} {
				r := Rule{Kind: kind, Absent: absence}
				got, outcome := r.judge(c.source, c.target, unseen)
				if got != want || outcome != outcomeOf(want) {
					t.Errorf("%s with absence %+v of %s -> %s: %s %s, want %s", kind, absence, c.source, c.target, got, outcome, want)
				}
			}
		}
	}
}

func TestRuleDefault(t *testing.T) {
	for _, c := range []struct {
		kind           RuleKind
		source, target inventory.Value
		want           Code
	}{
		{Equal, absent, of("5"), AttributeAccepted},
		{Equal, absent, of("6"), AttributeDiffers},
		{Superset, of("5 6"), absent, AttributeLacks},
		{AtLeast, absent, of("4"), AttributeTooLow},
		{AtLeast, of("4"), absent, AttributeAccepted},
		{AtMost, of("4"), absent, AttributeTooHigh},
		{SemVer, absent, of("5.1"), AttributeMalformed},
		{OneOf, absent, of("4,5"), AttributeAccepted},
		{OneOf, of("4"), absent, AttributeNotListed},
	} {
		r := Rule{Kind: c.kind, Absent: Absence{Default: "5"}}
		if got, _ := r.judge(c.source, c.target, unseen); got != c.want {
			t.Errorf("%s by default 5 of %s -> %s: %s, want %s", c.kind, c.source, c.target, got, c.want)
		}
	}
}

func TestRuleRangeStates(t *testing.T) {
	three := []inventory.Value{of("3"), absent, unseen}
	for _, source := range three {
		for _, low := range three {
			for _, high := range three {
				name := fmt.Sprintf("%s in %s..%s", source, low, high)
				var wantUnknown, wantOff, wantDefault Code
				switch {
				case source == unseen || low == unseen || high == unseen:
					wantUnknown, wantOff, wantDefault = AttributeUnobserved, AttributeUnobserved, AttributeUnobserved
				case source == absent || low == absent || high == absent:
					wantUnknown, wantDefault = AttributeAbsent, AttributeAccepted
					wantOff = AttributeOutOfRange
					if source == absent {
						wantOff = AttributeAccepted
					}
				default:
					wantUnknown, wantOff, wantDefault = AttributeAccepted, AttributeAccepted, AttributeAccepted
				}
				for absence, want := range map[Absence]Code{{}: wantUnknown, {Off: true}: wantOff, {Default: "3"}: wantDefault} {
					r := Rule{Kind: Range, Absent: absence}
					if got, _ := r.judge(source, low, high); got != want {
						t.Errorf("%s with absence %+v: %s, want %s", name, absence, got, want)
					}
				}
			}
		}
	}
}

func TestRuleCopyAndIgnore(t *testing.T) {
	for _, target := range []inventory.Value{of("2"), absent, unseen} {
		for source, want := range map[inventory.Value]Code{of("1"): AttributeCopied, absent: AttributeAccepted, unseen: AttributeUnobserved} {
			r := Rule{Kind: Copy}
			if got, outcome := r.judge(source, target, unseen); got != want || outcome != outcomeOf(want) {
				t.Errorf("copy of %s -> %s: %s %s, want %s", source, target, got, outcome, want)
			}
			r = Rule{Kind: Ignore}
			if _, outcome := r.judge(source, target, unseen); outcome != Compatible {
				t.Errorf("ignore of %s -> %s: %s", source, target, outcome)
			}
		}
	}
}

// TestContractAndPresent gives the contract and the present device every
// combination of an answer; the worse one is the verdict's.
func TestContractAndPresent(t *testing.T) {
	values := map[Outcome]inventory.Value{Compatible: of("5"), Unknown: unseen, Incompatible: of("9")}
	for now, present := range values {
		for then, promised := range values {
			p := newPair()
			p.rule(attributeRule(AtLeast))
			p.promise()
			p.toType().Attributes.Set("a", "5")
			give(&p.fromType().Attributes, present)
			give(&p.contract().TypeAttributes, promised)
			if v := p.check(t); v.Outcome != max(now, then) {
				t.Errorf("present %s, contract %s: %s", now, then, v.Outcome)
			}
		}
	}
}

func give(a *inventory.Attributes, v inventory.Value) {
	if text, ok := v.Get(); ok {
		a.Set("a", text)
	} else {
		a.Forget("a")
	}
}

// TestCopyTakesThePromise: what the guest was promised is what is set.
func TestCopyTakesThePromise(t *testing.T) {
	p := newPair()
	p.catalog.Rules = append(p.catalog.Rules, Rule{Attribute: "x", Of: OfDevice, Kind: Copy})
	p.promise()
	p.device().Attributes.Set("x", "now")
	p.contract().DeviceAttributes.Set("x", "promised")
	v := p.check(t)
	if v.Outcome != Compatible || v.Copy["x"] != "promised" {
		t.Errorf("%s, copies %v", v.Outcome, v.Copy)
	}
	p.contract().DeviceAttributes = attributes()
	if v := p.check(t); v.Copy["x"] != "now" {
		t.Errorf("without a promise it copies %v", v.Copy)
	}
}

// TestPlaces judges an attribute at each place it can be found.
func TestPlaces(t *testing.T) {
	fact := func(text string) inventory.Facts { return inventory.Facts{"a": {Value: of(text), Source: "test"}} }
	type place struct {
		name, attribute string
		of              Place
		set             func(inv *inventory.Inventory, text string)
	}
	host := func(attribute string, set func(h *inventory.Host, v inventory.Value)) place {
		return place{attribute, attribute, OfHost, func(inv *inventory.Inventory, text string) { set(&inv.Host, of(text)) }}
	}
	for _, c := range []place{
		{"type", "a", OfType, func(inv *inventory.Inventory, text string) { inv.Parents[0].Types[0].Attributes.Set("a", text) }},
		{"parent", "a", OfParent, func(inv *inventory.Inventory, text string) { inv.Parents[0].Attributes.Set("a", text) }},
		{"firmware", "a", OfFirmware, func(inv *inventory.Inventory, text string) { inv.Parents[0].Firmware.Set("a", text) }},
		{"fact of the type", "a", OfFact, func(inv *inventory.Inventory, text string) { inv.Parents[0].Types[0].Facts = fact(text) }},
		{"fact of the parent", "a", OfFact, func(inv *inventory.Inventory, text string) { inv.Parents[0].Facts = fact(text) }},
		{"fact of the host", "a", OfFact, func(inv *inventory.Inventory, text string) { inv.Host.Facts = fact(text) }},
		host("kernel.release", func(h *inventory.Host, v inventory.Value) { h.Kernel.Release = v }),
		host("kernel.arch", func(h *inventory.Host, v inventory.Value) { h.Kernel.Arch = v }),
		host("os.id", func(h *inventory.Host, v inventory.Value) { h.OS.ID = v }),
		host("os.version_id", func(h *inventory.Host, v inventory.Value) { h.OS.VersionID = v }),
		host("qemu", func(h *inventory.Host, v inventory.Value) { h.QEMU = v }),
		host("libvirt", func(h *inventory.Host, v inventory.Value) { h.Libvirt = v }),
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair()
			p.catalog.Rules = append(p.catalog.Rules, Rule{Attribute: c.attribute, Of: c.of, Kind: Equal})
			c.set(p.from, "6.12.1")
			c.set(p.to, "6.12.1")
			if v := p.check(t); v.Outcome != Compatible {
				t.Errorf("equal: %s, %s", v.Outcome, v.Worst().Text())
			}
			c.set(p.to, "6.12.2")
			if v := p.check(t); v.Outcome != Incompatible || v.Worst().Code != AttributeDiffers {
				t.Errorf("different: %s, %s", v.Outcome, v.Worst().Text())
			}
		})
	}
}

// TestFactsNearestFirst: a fact stated for the type hides the parent's, and
// that the host's.
func TestFactsNearestFirst(t *testing.T) {
	p := newPair()
	p.catalog.Rules = append(p.catalog.Rules, Rule{Attribute: "f", Of: OfFact, Kind: Equal})
	p.from.Host.Facts = inventory.Facts{"f": {Value: of("near")}}
	p.to.Host.Facts = inventory.Facts{"f": {Value: of("far")}}
	p.to.Parents[0].Facts = inventory.Facts{"f": {Value: of("middle")}}
	p.toType().Facts = inventory.Facts{"f": {Value: of("near")}}
	if v := p.check(t); v.Outcome != Compatible {
		t.Errorf("%s: %s", v.Outcome, v.Worst().Text())
	}
	p.toType().Facts["f"] = inventory.Fact{}
	if v := p.check(t); v.Outcome != Unknown {
		t.Errorf("with the nearest not observed: %s: %s", v.Outcome, v.Worst().Text())
	}
}

// TestRuleTypes: a rule with a glob is about the types it covers.
func TestRuleTypes(t *testing.T) {
	for glob, want := range map[string]Outcome{"": Incompatible, "*": Incompatible, "t": Incompatible, "t*": Incompatible, "u*": Unknown} {
		p := newPair()
		p.catalog.Rules[0].Types = glob
		p.toType().Attributes.Set("a", "2")
		if v := p.check(t); v.Outcome != want {
			t.Errorf("types %q: %s, want %s", glob, v.Outcome, want)
		}
	}
}

func FuzzJudge(f *testing.F) {
	for _, seed := range [][3]string{{"1", "2", "3"}, {"a,b", "b a", ""}, {"0x10", "16", "0b1"}, {"1.2", "1.3.4", "-"}, {"", " ", ",,"}, {"9007199254740993", "9007199254740992", "1e9"}, {"NaN", "Inf", "-0"}, {"\xff", "\u2028", "1."}} {
		f.Add(seed[0], seed[1], seed[2])
	}
	kinds := []RuleKind{Equal, Superset, AtLeast, AtMost, SemVer, Range, OneOf, Copy, Ignore}
	forms := []Form{"", Text, Number, List, BitMask}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		for _, kind := range kinds {
			for _, form := range forms {
				for _, absence := range []Absence{{}, {Off: true}, {Default: c}} {
					r := Rule{Kind: kind, Form: form, Absent: absence}
					for _, high := range []inventory.Value{of(c), absent, unseen} {
						code, outcome := r.judge(of(a), of(b), high)
						if outcome != outcomeOf(code) {
							t.Errorf("%s as %s: %s is %s", kind, form, code, outcome)
						}
					}
					_, there := r.judge(of(a), of(b), unseen)
					_, back := r.judge(of(b), of(a), unseen)
					if kind == Equal && there != back {
						t.Errorf("equal as %s: %q -> %q is %s, back %s", form, a, b, there, back)
					}
					if _, self := r.judge(of(a), of(a), unseen); kind != Range && kind != OneOf && self == Incompatible {
						t.Errorf("%s as %s: %q is incompatible with itself", kind, form, a)
					}
					r.judge(absent, of(b), absent)
					r.judge(of(a), absent, absent)
				}
			}
		}
		if strings.ContainsAny(a, ", \t\n") || a == "" {
			return
		}
		r := Rule{Kind: OneOf}
		if _, outcome := r.judge(of(a), of(b+","+a), unseen); outcome != Compatible {
			t.Errorf("one-of: %q is not in a list that ends with it", a)
		}
	})
}
