// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"kindred/compat"
	"kindred/inventory"
)

func parentPlace(inv *inventory.Inventory, p *inventory.Parent) string {
	return inv.Host.Name + ", " + p.Name
}

// offer is a type as one parent offers it.
type offer struct {
	place  string
	parent *inventory.Parent
	*inventory.Type
}

// offers looks at the types of all inventories, one by one and against each
// other. Of equal offers of one type the first stands for all.
func (l *linter) offers() {
	var list []offer
	for _, inv := range l.Inventories {
		for i := range inv.Parents {
			p := &inv.Parents[i]
			if isGeneric(p.Namespace) {
				l.add(nil, Finding{Code: NamePrefix, Place: parentPlace(inv, p), About: p.Namespace, namespace: p.Namespace,
					Reason: "drivers of several vendors could be called so, and their types would be taken for each other's",
					Better: "a driver name that begins with the vendor's, such as acme_" + slug(p.Namespace)})
			}
			for j := range p.Types {
				o := offer{parentPlace(inv, p), p, &p.Types[j]}
				l.one(o)
				list = append(list, o)
			}
		}
		l.instances(inv)
	}
	l.pairs(list)
}

// pairs compares offers that have something in common: a name, a label, an
// interface, or a declaration. Of equal offers the first stands for all.
func (l *linter) pairs(list []offer) {
	seen := make(map[string]bool)
	common := make(map[string][]offer)
	var order []string
	put := func(key string, o offer) {
		if common[key] == nil {
			order = append(order, key)
		}
		common[key] = append(common[key], o)
	}
	for _, o := range list {
		shape := shapeOf(o.Type)
		key := fmt.Sprintf("%q%q%q", o.Namespace, o.Name, o.Label) + shape
		if seen[key] {
			continue
		}
		seen[key] = true
		put("name "+o.Full(), o)
		put(fmt.Sprintf("label %q%q", o.Namespace, o.Label), o)
		put("shape "+shape, o)
		if c, i := l.declaration(o.TypeName); c != nil {
			put(fmt.Sprintf("declared %s %d", c.Name, i), o)
		}
	}
	done := make(map[[2]*inventory.Type]bool)
	for _, key := range order {
		group := common[key]
		for i, a := range group {
			if i > 0 && len(group) > maxPairs {
				break // the first with each other one has to do
			}
			for _, b := range group[i+1:] {
				if pair := [2]*inventory.Type{a.Type, b.Type}; !done[pair] {
					done[pair] = true
					l.two(a, b)
				}
			}
		}
	}
}

// maxPairs is how many offers are compared each with each.
const maxPairs = 100

// shapeOf is what is known of an interface, as text.
func shapeOf(t *inventory.Type) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q%q%v", t.DeviceAPI, t.Description, t.Attributes.Complete)
	for _, name := range presentNames(&t.Attributes) {
		fmt.Fprintf(&b, "%q=%q", name, t.Attributes.Get(name).Text())
	}
	return b.String()
}

// declaration is the catalog and the number of the equivalence that a type is
// in, nil if there is none.
func (l *linter) declaration(n inventory.TypeName) (*compat.Catalog, int) {
	if c := l.known(n.Namespace); c != nil {
		for i := range c.Equivalent {
			if slices.Contains(c.Equivalent[i].Types, compat.FullName(n)) {
				return c, i
			}
		}
	}
	return nil, 0
}

// one looks at a type by itself.
func (l *linter) one(o offer) {
	c := l.known(o.Namespace)
	byLabel := c != nil && c.Identity == compat.ByLabel
	if numbered().MatchString(o.Name) && !byLabel {
		if where, text := saysWhat(o.Type); where != "" {
			l.add(c, Finding{Code: NameMeaningless, Place: o.place, About: o.Full(), namespace: o.Namespace,
				Reason: fmt.Sprintf("the name does not say what it is, %s does: %q", where, text),
				Better: "a name of what the guest gets, such as " + o.Namespace + "-" + slug(firstWords(text))})
		}
	}
	for _, name := range presentNames(&o.Attributes) {
		if !l.ruled(c, o.parent, compat.OfType, name, o.Name) {
			l.add(c, Finding{Code: RuleMissing, Place: o.place, About: name, namespace: o.Namespace,
				Reason: fmt.Sprintf("types of %s have it, and no rule says whether the guest sees it: targets where it differs are unknown", o.Namespace),
				Better: fmt.Sprintf("a rule in a catalog for %s: equal where the guest sees it, superset or at-least where more is as good, ignore where it says nothing", o.Namespace)})
		}
		l.version(c, o.place, o.Full(), o.Namespace, name, o.Attributes.Get(name))
	}
}

func firstWords(text string) string {
	words := strings.Fields(text)
	return strings.Join(words[:min(4, len(words))], " ")
}

// instances looks at the attributes of devices.
func (l *linter) instances(inv *inventory.Inventory) {
	for i := range inv.Devices {
		d := &inv.Devices[i]
		p := inv.Parent(d.Parent)
		if p == nil {
			continue
		}
		c := l.known(d.Type.Namespace)
		for _, name := range presentNames(&d.Attributes) {
			if !l.ruled(c, p, compat.OfDevice, name, d.Type.Name) {
				l.add(c, Finding{Code: RuleMissing, Place: parentPlace(inv, p), About: name, namespace: d.Type.Namespace,
					Reason: fmt.Sprintf("devices of %s have it, and no rule says whether it is carried over: the answer is unknown", d.Type.Namespace),
					Better: fmt.Sprintf("a rule in a catalog for %s: copy where the target has to be given it, ignore where it says nothing", d.Type.Namespace)})
			}
		}
	}
}

// functionSees are attributes of PCI functions that must be equal without any
// catalog's rule.
var functionSees = []string{"bars", "class", "revision", "subsystem_device", "subsystem_vendor"}

func (l *linter) ruled(c *compat.Catalog, p *inventory.Parent, of compat.Place, name, typ string) bool {
	if of == compat.OfType && p.Kind == inventory.FunctionParent && slices.Contains(functionSees, name) {
		return true
	}
	return c != nil && slices.ContainsFunc(c.Rules, func(r compat.Rule) bool {
		if ok, err := path.Match(r.Types, typ); r.Types != "" && (err != nil || !ok) {
			return false
		}
		if r.Of == of && r.Attribute == name {
			return true
		}
		return of == compat.OfType && (r.Of == compat.OfType || r.Of == compat.OfDevice) && slices.Contains([]string{r.Against, r.Min, r.Max}, name)
	})
}

// two looks at a pair of offers.
func (l *linter) two(a, b offer) {
	c := l.known(a.Namespace)
	byLabel := c != nil && c.Identity == compat.ByLabel && a.Namespace == b.Namespace
	same := a.TypeName == b.TypeName
	if byLabel {
		same = a.Label == b.Label
	}
	switch {
	case a.Full() == b.Full() && a.TypeName != b.TypeName:
		l.add(c, Finding{Code: NamespaceCollision, Place: b.place, About: b.Full(), namespace: b.Namespace,
			Reason: fmt.Sprintf("it is the type %q of %s and the type %q of %s", a.Name, a.Namespace, b.Name, b.Namespace),
			Better: "driver names of which none begins with another and a dash"})
	case same:
		l.varies(c, a, b)
	case byLabel:
	case l.declared(a.TypeName, b.TypeName):
		l.generations(c, b.place, a.TypeName, b.TypeName, "are declared equivalent")
	case oneInterface(a.Type, b.Type):
		if !l.generations(c, b.place, a.TypeName, b.TypeName, "have equal APIs and attributes") {
			l.add(c, Finding{Code: TypeDuplicate, Place: b.place, About: b.Full(), namespace: b.Namespace,
				Reason: fmt.Sprintf("%s has the same API and the same attributes: a device of one cannot move to a parent that offers only the other", a.Full()),
				Better: fmt.Sprintf("the name %s for both; or an attribute that says how they differ", a.Full())})
		}
	}
}

// varies says where one name stands for several interfaces. An attribute with
// a rule that allows it to differ is meant to.
func (l *linter) varies(c *compat.Catalog, a, b offer) {
	differs := func(what string, va, vb inventory.Value) {
		if va == vb || va.State() == inventory.NotObserved || vb.State() == inventory.NotObserved {
			return
		}
		l.add(c, Finding{Code: TypeVaries, Place: b.place, About: b.Full(), namespace: b.Namespace,
			Reason: fmt.Sprintf("%s is %s here and %s on %s: one name stands for two interfaces", what, vb, va, a.place),
			Better: "a type never changes: a new name for the new interface, and the old one offered beside it"})
	}
	differs("the API", a.DeviceAPI, b.DeviceAPI)
	names := slices.Concat(presentNames(&a.Attributes), presentNames(&b.Attributes))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if r := ruleFor(c, name); r == nil || r.Kind == compat.Equal {
			if r == nil && l.ruled(c, b.parent, compat.OfType, name, b.Name) && !slices.Contains(functionSees, name) {
				continue // the other end of another attribute's rule
			}
			differs(name, a.Attributes.Get(name), b.Attributes.Get(name))
		}
	}
}

// declared reports whether a catalog declares the two equivalent.
func (l *linter) declared(a, b inventory.TypeName) bool {
	for _, ns := range [2]string{a.Namespace, b.Namespace} {
		c := l.known(ns)
		if c == nil {
			continue
		}
		for i := range c.Equivalent {
			types := c.Equivalent[i].Types
			if slices.Contains(types, compat.FullName(a)) && slices.Contains(types, compat.FullName(b)) {
				return true
			}
		}
	}
	return false
}
