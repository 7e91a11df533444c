// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"fmt"
	"slices"
	"strings"

	"kindred/compat"
	"kindred/inventory"
)

// catalog looks at one catalog by itself.
func (l *linter) catalog(c *compat.Catalog) {
	for _, ns := range c.Namespaces {
		if isGeneric(ns) {
			l.add(c, Finding{Code: NamePrefix, Place: at(c, 1), About: ns,
				Reason: "drivers of several vendors could be called so, and their types would be taken for each other's",
				Better: "a driver name that begins with the vendor's, such as acme_" + slug(ns)})
		}
	}
	for i := range c.Equivalent {
		l.equivalence(c, &c.Equivalent[i])
	}
	l.unjudged(c)
	for i := range c.Rules {
		l.rule(c, &c.Rules[i])
	}
	l.selectors(c)
}

func full(n compat.FullName) string { return n.Namespace + "-" + n.Name }

// equivalence looks at a declaration: whether it was needed because of names,
// and whether it was proved.
func (l *linter) equivalence(c *compat.Catalog, e *compat.Equivalence) {
	proved := func(a, b compat.FullName) bool {
		lowest := c.Proof.Lowest
		if lowest == 0 {
			lowest = compat.WorkingState
		}
		return slices.ContainsFunc(l.Proofs, func(p compat.Proof) bool {
			s, t := compat.FullName(p.SourceType), compat.FullName(p.TargetType)
			return p.Result == compat.Accepted && p.Grade >= lowest && (s == a && t == b || s == b && t == a)
		})
	}
	for _, a := range e.Types {
		if !slices.ContainsFunc(e.Types, func(b compat.FullName) bool { return a != b && proved(a, b) }) {
			l.add(c, Finding{Code: EquivalenceUnproven, Place: at(c, e.Line), About: full(e.Types[0]),
				Reason: fmt.Sprintf("no transfer between %s and another of the list was accepted: until one is, the answer stays unknown", full(a)),
				Better: "a proof between the two drivers, or the same full name in both"})
			break
		}
	}
	for i, a := range e.Types {
		for _, b := range e.Types[i+1:] {
			l.generations(c, at(c, e.Line), inventory.TypeName(a), inventory.TypeName(b), "are declared equivalent")
		}
	}
}

// generations says that two types of one interface differ by generation.
func (l *linter) generations(c *compat.Catalog, place string, a, b inventory.TypeName, why string) bool {
	sameNames := a.Name == b.Name || generationsOf(a.Name, b.Name)
	switch {
	case a.Namespace == b.Namespace && generationsOf(a.Name, b.Name):
		rest, _ := withoutGeneration(a.Name)
		l.add(c, Finding{Code: NameGeneration, Place: place, About: a.Full(), namespace: a.Namespace,
			Reason: fmt.Sprintf("%s and %s %s: the generation keeps devices from moving between hosts that offer one interface", a.Full(), b.Full(), why),
			Better: fmt.Sprintf("one name on both, such as %s-%s; a new name only for a new interface", a.Namespace, rest)})
	case a.Namespace != b.Namespace && sameNames && generationsOf(a.Namespace, b.Namespace):
		rest, _ := withoutGeneration(a.Namespace)
		l.add(c, Finding{Code: NamespaceSplit, Place: place, About: a.Full(), namespace: a.Namespace,
			Reason: fmt.Sprintf("%s and %s %s: the drivers' names make two types of one", a.Full(), b.Full(), why),
			Better: fmt.Sprintf("parents of both under one driver name, such as %s; until then an equivalence, once a transfer proved it", rest)})
	default:
		return false
	}
	return true
}

// unjudged looks for attributes that the catalog itself names without a rule.
func (l *linter) unjudged(c *compat.Catalog) {
	ruled := func(name string, of compat.Place) bool {
		return slices.ContainsFunc(c.Rules, func(r compat.Rule) bool {
			ofTarget := of == compat.OfType && (r.Of == compat.OfType || r.Of == compat.OfDevice)
			return r.Of == of && r.Attribute == name || ofTarget && slices.Contains([]string{r.Against, r.Min, r.Max}, name)
		})
	}
	missing := func(name, reason string) {
		l.add(c, Finding{Code: RuleMissing, Place: at(c, 1), About: name, Reason: reason,
			Better: fmt.Sprintf("a rule: equal where the guest sees %s, superset or at-least where more is as good, ignore where it says nothing", name)})
	}
	for _, name := range c.Proof.Shaping {
		if !ruled(name, compat.OfType) {
			missing(name, "it shapes the stream, and no rule compares it")
		}
	}
	if c.Examples.Base.Kind != inventory.FunctionParent {
		for name := range c.Examples.Base.Attributes {
			if !ruled(name, compat.OfType) {
				missing(name, "the examples' types have it, and no rule compares it: targets where it differs are unknown")
			}
		}
	}
	for name := range c.Examples.Base.Instance {
		if !ruled(name, compat.OfDevice) {
			missing(name, "the examples' devices have it, and no rule says whether it is carried over: the answer is unknown")
		}
	}
	for name, v := range c.Examples.Base.Attributes {
		if v.State() == inventory.Present {
			l.version(c, at(c, 1), name, c.Namespaces[0], name, v)
		}
	}
}

// version looks at an attribute that is called a version.
func (l *linter) version(c *compat.Catalog, place, about, namespace, name string, v inventory.Value) {
	if !strings.Contains(strings.ToLower(name), "version") || v.State() != inventory.Present {
		return
	}
	if r := ruleFor(c, name); r != nil && r.Kind != compat.SemVer && r.Kind != compat.Equal {
		return // it is compared some other way
	}
	semver := compat.Rule{Kind: compat.SemVer}
	if code, _ := semver.Judge(v, v, inventory.Value{}); code == compat.AttributeMalformed {
		l.add(c, Finding{Code: VersionUnparsable, Place: place, About: about, namespace: namespace,
			Reason: fmt.Sprintf("%q has no major and minor: nobody can tell whether another one is newer, so only equal ones are alike", v.Text()),
			Better: "major.minor.bugfix: the major changes when old devices are no longer taken, the minor when something was added"})
	}
}

func ruleFor(c *compat.Catalog, attribute string) *compat.Rule {
	if c == nil {
		return nil
	}
	for i := range c.Rules {
		if c.Rules[i].Of == compat.OfType && c.Rules[i].Attribute == attribute {
			return &c.Rules[i]
		}
	}
	return nil
}

// namespaces looks for namespaces, of catalogs and parents together, that can
// make one full name of different types.
func (l *linter) namespaces() {
	type named struct {
		namespace, place string
		c                *compat.Catalog
	}
	var all []named
	for _, c := range l.Catalogs {
		for _, ns := range c.Namespaces {
			all = append(all, named{ns, at(c, 1), c})
		}
	}
	for _, inv := range l.Inventories {
		for i := range inv.Parents {
			p := &inv.Parents[i]
			all = append(all, named{p.Namespace, parentPlace(inv, p), nil})
		}
	}
	names := make(map[string]bool)
	for _, a := range all {
		names[a.namespace] = a.namespace != ""
	}
	for _, b := range all {
		for name := range names {
			if names[name] && strings.HasPrefix(b.namespace, name+"-") {
				l.add(b.c, Finding{Code: NamespaceCollision, Place: b.place, About: b.namespace, namespace: b.namespace,
					Reason: fmt.Sprintf("%s is a namespace too: %s-x is a type x of one, or a type %s-x of the other", name, b.namespace, strings.TrimPrefix(b.namespace, name+"-")),
					Better: "driver names of which none begins with another and a dash, such as " + strings.ReplaceAll(b.namespace, "-", "_")})
			}
		}
	}
}
