// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"kindred/compat"
	"kindred/inventory"
)

// Inventories compares hosts before and after a driver upgrade. Hosts are
// matched by name; one that is on one side only is compared with nothing.
func Inventories(known *compat.Catalogs, before, after []*inventory.Inventory) []Change {
	engine := compat.NewEngine(known, nil)
	d := &hosts{known: known, engine: engine, after: engine}
	var then, now []*inventory.Inventory
	for _, old := range before {
		if fresh := named(after, old.Host.Name); fresh != nil {
			then, now = append(then, old), append(now, fresh)
			d.host(old, fresh)
		}
	}
	d.became(then, now)
	d.devices(then, now)
	return d.sorted()
}

// Answers compares what two sets of catalogs say of the running devices of some
// hosts.
func Answers(before, after *compat.Catalogs, inventories []*inventory.Inventory) []Change {
	d := &hosts{known: after, engine: compat.NewEngine(before, nil), after: compat.NewEngine(after, nil)}
	d.devices(inventories, inventories)
	return d.sorted()
}

func named(all []*inventory.Inventory, name string) *inventory.Inventory {
	for _, inv := range all {
		if inv.Host.Name == name {
			return inv
		}
	}
	return nil
}

type hosts struct {
	list
	known  *compat.Catalogs
	engine *compat.Engine // for what was before
	after  *compat.Engine // for what is now
}

const keepOld = "offer the type as it was, and the new interface under a new name beside it"

// host compares what the parents of one host offer.
func (d *hosts) host(old, now *inventory.Inventory) {
	for i := range old.Parents {
		p := &old.Parents[i]
		q := now.Parent(p.Name)
		where := old.Host.Name + ", " + p.Name
		if q == nil {
			d.add(ParentRemoved, where, p.Name, "", "%d types went with it", len(p.Types))
			continue
		}
		for k := range p.Types {
			t := &p.Types[k]
			if u := d.find(q, t); u != nil {
				d.compare(where, p, t, u)
			} else if !q.TypesUnread {
				d.add(TypeRemoved, where, t.Full(), "offer it beside the new types: devices of it can go nowhere else", "it was offered and is not any more")
			}
		}
		for k := range q.Types {
			if u := &q.Types[k]; d.find(p, u) == nil {
				d.add(TypeAdded, where, u.Full(), "", "it was not offered before")
			}
		}
	}
}

// find is the parent's type that is the same by the namespace's identity.
func (d *hosts) find(p *inventory.Parent, t *inventory.Type) *inventory.Type {
	c := d.known.For(t.Namespace)
	if c == nil || c.Identity != compat.ByLabel {
		return p.Type(t.TypeName)
	}
	for i := range p.Types {
		if u := &p.Types[i]; u.Namespace == t.Namespace && u.Label == t.Label {
			return u
		}
	}
	return nil
}

// compare judges whether a type is still the interface it was.
func (d *hosts) compare(where string, p *inventory.Parent, t, u *inventory.Type) {
	if t.DeviceAPI != u.DeviceAPI && t.DeviceAPI.State() == inventory.Present && u.DeviceAPI.State() == inventory.Present {
		d.add(TypeChanged, where, t.Full(), keepOld, "its API was %s and is %s", t.DeviceAPI, u.DeviceAPI)
	}
	major := d.majorBump(t, u)
	for _, name := range attributeNames(t, u) {
		was, is := t.Attributes.Get(name), u.Attributes.Get(name)
		if was == is || is.State() == inventory.NotObserved || was.State() == inventory.NotObserved {
			continue
		}
		r := ruleFor(d.known.For(t.Namespace), name, t.Name)
		if r == nil {
			if judgedOtherwise(d.known.For(t.Namespace), name) {
				continue
			}
			r = &compat.Rule{Attribute: name, Kind: compat.Equal, Absent: compat.Absence{Off: true}}
		}
		code, outcome := r.Judge(was, is, inventory.Value{})
		switch {
		case outcome == compat.Compatible:
		case code == compat.AttributeLacks:
			if major == "" {
				d.add(FeatureRemoved, where, t.Full(), "a new major version with it, and the old type offered beside; or keep the feature", "%s was %s and is %s, and no version changed its major", name, was, is)
			}
		case code == compat.VersionMajor:
			d.add(TypeChanged, where, t.Full(), keepOld, "%s was %s and is %s: devices of the old major have no target here", name, was, is)
		default:
			d.add(TypeChanged, where, t.Full(), keepOld, "%s was %s and is %s (%s)", name, was, is, code)
		}
	}
	if t.Description != u.Description && t.Description.State() == inventory.Present && u.Description.State() == inventory.Present {
		for _, r := range descriptionRules(d.known.For(t.Namespace)) {
			was, is := compat.Described(t.Description, r.Attribute), compat.Described(u.Description, r.Attribute)
			if _, outcome := r.Judge(was, is, inventory.Value{}); outcome == compat.Incompatible {
				d.add(TypeChanged, where, t.Full(), keepOld, "its description's %s was %s and is %s", r.Attribute, was, is)
			}
		}
	}
}

// majorBump is the version attribute whose major changed.
func (d *hosts) majorBump(t, u *inventory.Type) string {
	c := d.known.For(t.Namespace)
	for _, name := range attributeNames(t, u) {
		if r := ruleFor(c, name, t.Name); r == nil && strings.Contains(name, "version") || r != nil && r.Kind == compat.SemVer {
			semver := compat.Rule{Kind: compat.SemVer}
			if code, _ := semver.Judge(t.Attributes.Get(name), u.Attributes.Get(name), inventory.Value{}); code == compat.VersionMajor {
				return name
			}
		}
	}
	return ""
}

func attributeNames(t, u *inventory.Type) []string {
	var names []string
	for name := range t.Attributes.Values {
		names = append(names, name)
	}
	for name := range u.Attributes.Values {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func ruleFor(c *compat.Catalog, attribute, typ string) *compat.Rule {
	if c == nil {
		return nil
	}
	for i := range c.Rules {
		if r := &c.Rules[i]; r.Of == compat.OfType && r.Attribute == attribute && r.Covers(typ) && r.Kind != compat.Range && r.Against == "" {
			return r
		}
	}
	return nil
}

// judgedOtherwise is true for an attribute that is the other end of a rule.
func judgedOtherwise(c *compat.Catalog, name string) bool {
	return c != nil && slices.ContainsFunc(c.Rules, func(r compat.Rule) bool { return slices.Contains([]string{r.Attribute, r.Against, r.Min, r.Max}, name) })
}

func descriptionRules(c *compat.Catalog) (rules []*compat.Rule) {
	for i := 0; c != nil && i < len(c.Rules); i++ {
		if c.Rules[i].Of == compat.OfDescription {
			rules = append(rules, &c.Rules[i])
		}
	}
	return rules
}

// both is a type that a parent offered and offers.
type both struct {
	host, parent      string
	then, now         *compat.Offer
	fromThen, fromNow *compat.Source // an instance of it
}

// became looks for pairs of types on different parents that the engine refused
// before and takes now, or that were told apart before and are alike now.
func (d *hosts) became(then, now []*inventory.Inventory) {
	all := d.kept(then, now)
	// Only what has a name, a label or an interface in common can be compatible.
	common := make(map[string][]int)
	for i := range all {
		t := all[i].now.Type()
		for _, key := range []string{"name " + t.Full(), fmt.Sprintf("label %q%q", t.Namespace, t.Label), "interface " + interfaceOf(t)} {
			if len(common[key]) < maxPairs {
				common[key] = append(common[key], i)
			}
		}
	}
	done := make(map[[2]int]bool)
	for _, group := range common {
		for _, i := range group {
			for _, k := range group {
				if pair := [2]int{i, k}; i != k && !done[pair] {
					done[pair] = true
					d.pair(&all[i], &all[k])
				}
			}
		}
	}
}

// kept lists the types that parents offered and still offer. Hosts come in few
// shapes: those that say the same before and after are listed once.
func (d *hosts) kept(then, now []*inventory.Inventory) []both {
	var all []both
	seen := make(map[string]bool)
	for i := range then {
		fresh := make(map[string]*compat.Offer)
		for _, n := range d.engine.Offers(now[i]) {
			fresh[fmt.Sprintf("%q%q", n.Parent(), n.Type().TypeName)] = n
		}
		for _, o := range d.engine.Offers(then[i]) {
			n := fresh[fmt.Sprintf("%q%q", o.Parent(), o.Type().TypeName)]
			if n == nil {
				continue
			}
			key := shapeOf(o.Type()) + shapeOf(n.Type()) + o.Build().ID + n.Build().ID
			if !seen[key] {
				seen[key] = true
				all = append(all, both{o.Host(), o.Parent(), o, n, d.engine.Instance(o), d.engine.Instance(n)})
			}
		}
	}
	return all
}

// pair says whether a device of one type could not become the other, and now
// can.
func (d *hosts) pair(a, b *both) {
	where := fmt.Sprintf("%s, %s", b.host, b.parent)
	was, is := d.engine.Outcome(a.fromThen, b.then), d.engine.Outcome(a.fromNow, b.now)
	differed := a.then.Type().TypeName != b.then.Type().TypeName && !alike(a.then.Type(), b.then.Type())
	switch {
	case was == compat.Incompatible && is == compat.Compatible:
		d.add(TypeBecameCompatible, where, b.now.Type().Full(), "offer the older interface under its own name from the start: then nothing changes later", "%s of %s could not go there, and now can", a.now.Type().Full(), a.host+", "+a.parent)
	case differed && alike(a.now.Type(), b.now.Type()) && a.now.Type().Full() < b.now.Type().Full():
		d.add(TypeBecameCompatible, where, b.now.Type().Full(), "offer "+a.now.Type().Full()+" there instead: one interface has one name", "it and %s had different attributes, and now have the same", a.now.Type().Full())
	}
}

// maxPairs is how many offers with something in common are compared each with
// each; hosts come in few shapes.
const maxPairs = 200

func shapeOf(t *inventory.Type) string {
	return fmt.Sprintf("%q%q%q", t.Full(), t.Label, t.Description) + interfaceOf(t)
}

// interfaceOf is a type's API and attributes as text.
func interfaceOf(t *inventory.Type) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q", t.DeviceAPI)
	for _, name := range attributeNames(t, t) {
		fmt.Fprintf(&b, "%q=%q", name, t.Attributes.Get(name))
	}
	return b.String()
}

// alike reports whether two types have an equal API and equal attributes, of
// which there is one at least.
func alike(t, u *inventory.Type) bool {
	if t.DeviceAPI != u.DeviceAPI || !t.Attributes.Complete || !u.Attributes.Complete || len(t.Attributes.Values) == 0 {
		return false
	}
	return !slices.ContainsFunc(attributeNames(t, u), func(name string) bool { return t.Attributes.Get(name) != u.Attributes.Get(name) })
}

// devices looks for running devices that could go to a host and cannot any
// more.
func (d *hosts) devices(then, now []*inventory.Inventory) {
	offersThen, offersNow := make([]offerIndex, len(then)), make([]offerIndex, len(now))
	// A host that is as it was gives the answers it gave.
	var changed []int
	for i := range then {
		a, b := then[i], now[i]
		if d.engine == d.after && reflect.DeepEqual(a.Host, b.Host) && reflect.DeepEqual(a.Modules, b.Modules) && reflect.DeepEqual(a.Parents, b.Parents) {
			continue
		}
		changed = append(changed, i)
		offersThen[i], offersNow[i] = indexOffers(d.engine.Offers(then[i])), indexOffers(d.after.Offers(now[i]))
	}
	for _, inv := range then {
		for k := range inv.Devices {
			s, t := d.engine.Source(inv, &inv.Devices[k]), d.after.Source(inv, &inv.Devices[k])
			where := inv.Host.Name + ", " + inv.Devices[k].Parent
			keys := d.keys(s)
			for _, i := range changed {
				was, _ := best(d.engine, s, offersThen[i], keys)
				is, o := best(d.after, t, offersNow[i], keys)
				host := then[i].Host.Name
				switch {
				case was < compat.Incompatible && is == compat.Incompatible:
					reason := "nothing there offers its type"
					if o != nil {
						v := d.after.Check(t, o)
						f := v.Worst()
						reason = string(f.Code) + ": " + f.Text()
					}
					d.add(DeviceHurt, where, s.ID, "move it before the upgrade, or offer its type as it was", "to %s it was %s and is incompatible (%s)", host, was, reason)
				case was == compat.Compatible && is == compat.Unknown:
					v := d.after.Check(t, o)
					f := v.Worst()
					d.add(DeviceUnproven, where, s.ID, f.Code.Remedy(), "to %s it was compatible and is unknown (%s: %s)", host, f.Code, f.Text())
				}
			}
		}
	}
}

// best is the best outcome among offers, and the offer of the device's type
// that has it; nil when none is of its type.
func best(e *compat.Engine, s *compat.Source, offers offerIndex, keys []string) (compat.Outcome, *compat.Offer) {
	found, at := compat.Incompatible, (*compat.Offer)(nil)
	for _, key := range keys {
		for _, o := range offers[key] {
			outcome := e.Outcome(s, o)
			if outcome < found || at == nil && o.Type().TypeName == s.Type() {
				found, at = outcome, o
			}
		}
	}
	return found, at
}

// offerIndex finds offers by what makes them one interface with a device's
// type: the name, or the label.
type offerIndex map[string][]*compat.Offer

func nameKey(n inventory.TypeName) string { return fmt.Sprintf("name %q%q", n.Namespace, n.Name) }

func labelKey(namespace string, label inventory.Value) string {
	return fmt.Sprintf("label %q%q", namespace, label)
}

func indexOffers(offers []*compat.Offer) offerIndex {
	index := make(offerIndex)
	for _, o := range offers {
		t := o.Type()
		index[nameKey(t.TypeName)] = append(index[nameKey(t.TypeName)], o)
		if t.Label.State() == inventory.Present {
			index[labelKey(t.Namespace, t.Label)] = append(index[labelKey(t.Namespace, t.Label)], o)
		}
	}
	return index
}

// keys are where offers that a device could become are found: its own type,
// its label, and what either set of catalogs declares equivalent.
func (d *hosts) keys(s *compat.Source) []string {
	keys := []string{nameKey(s.Type()), labelKey(s.Type().Namespace, s.Label())}
	for _, n := range slices.Concat(d.engine.Equivalents(s.Type()), d.after.Equivalents(s.Type())) {
		keys = append(keys, nameKey(n))
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
