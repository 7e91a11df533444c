// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kindred/inventory"
)

// nameless is a verdict without the names of host and parent.
func nameless(v Verdict) Verdict {
	v.Host, v.Parent = "", ""
	return v
}

// TestClass: ends of one class have one verdict against everything, also on
// the way back and for new instances; a host is compared with itself less one
// fact, so that classes are equal only where the fact is looked at nowhere.
func TestClass(t *testing.T) {
	var equalOffers, otherOffers, equalSources, otherSources int
	values := cmp.AllowUnexported(inventory.Value{})
	rapid.Check(t, func(t *rapid.T) {
		w := genWorld(t)
		e := w.engine(t)
		sources, offers := w.sources(e), w.offers(e)
		inv := w.inventories[rapid.IntRange(0, len(w.inventories)-1).Draw(t, "host")]
		twin := clone(inv)
		what := "nothing"
		if n := rapid.IntRange(-1, 60).Draw(t, "fact"); n >= 0 {
			if poorer, gone := w.without(inv, n); poorer != nil {
				twin, what = poorer, gone
			}
		}
		twin.Host.Name = "twin"
		same := func(name string, a, b Verdict) {
			if diff := cmp.Diff(nameless(a), nameless(b), values); diff != "" {
				t.Fatalf("without %s: %s of equal class:\n%s", what, name, diff)
			}
		}
		for _, o := range e.Offers(inv) {
			i := slices.IndexFunc(twin.Parents, func(p inventory.Parent) bool { return p.Name == o.Parent() })
			if i < 0 || twin.Parents[i].Type(o.Type().TypeName) == nil {
				continue
			}
			other := e.offer(twin, &twin.Parents[i], twin.Parents[i].Type(o.Type().TypeName))
			if e.OfferClass(o) != e.OfferClass(other) {
				otherOffers++
				continue
			}
			equalOffers++
			for _, s := range sources {
				same("offers", e.Check(s, o), e.Check(s, other))
				if home := e.Home(s); home != nil {
					same("ways back", e.Check(e.Arrived(s, o), home), e.Check(e.Arrived(s, other), home))
				}
			}
			for _, to := range offers {
				same("instances", e.Check(e.Instance(o), to), e.Check(e.Instance(other), to))
			}
		}
		for i := range inv.Devices {
			d := twin.Device(inv.Devices[i].ID)
			if d == nil || twin.Parent(d.Parent) == nil {
				continue
			}
			s, other := e.Source(inv, &inv.Devices[i]), e.Source(twin, d)
			if e.SourceClass(s) != e.SourceClass(other) {
				otherSources++
				continue
			}
			equalSources++
			for _, o := range offers {
				same("devices", e.Check(s, o), e.Check(other, o))
			}
		}
	})
	t.Logf("offers %d equal %d not, devices %d equal %d not", equalOffers, otherOffers, equalSources, otherSources)
	if !t.Failed() && min(equalOffers, otherOffers, equalSources, otherSources) == 0 {
		t.Error("the worlds are too plain to show anything")
	}
}

// TestClassIgnores: what a rule says to ignore makes no class, as long as no
// type that it is compared with looks at it.
func TestClassIgnores(t *testing.T) {
	rule := func(types string, kind RuleKind) Rule {
		return Rule{Attribute: "id", Of: OfDevice, Kind: kind, Types: types, Source: "test"}
	}
	for _, c := range []struct {
		name    string
		rules   []Rule
		label   bool
		ignored bool
	}{
		{"no rule", nil, false, false},
		{"ignored", []Rule{rule("", Ignore)}, false, true},
		{"copied", []Rule{rule("", Copy)}, false, false},
		{"ignored for its type", []Rule{rule("t", Ignore)}, false, true},
		{"ignored for another type", []Rule{rule("u", Ignore)}, false, false},
		{"ignored for its type, which may be another by label", []Rule{rule("t", Ignore)}, true, false},
		{"ignored for all", []Rule{rule("", Ignore)}, true, true},
	} {
		p := newPair()
		p.catalog.Rules = c.rules
		if c.label {
			p.catalog.Identity = ByLabel
		}
		e := p.engine(t, nil)
		class := func(id string) Class {
			p.device().Attributes.Set("id", id)
			return e.SourceClass(e.Source(p.from, p.device()))
		}
		if got := class("1") == class("2"); got != c.ignored {
			t.Errorf("%s: two ids have one class: %v", c.name, got)
		}
	}
}
