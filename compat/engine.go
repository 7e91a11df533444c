// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"path"
	"slices"
	"strings"
	"sync"

	"kindred/inventory"
)

// Engine is what is known of drivers: catalogs and proofs. It does not change
// and is safe for concurrent use.
type Engine struct {
	catalogs *Catalogs
	proofs   map[proofKey][]*Proof
}

// NewEngine makes an engine.
func NewEngine(catalogs *Catalogs, proofs []Proof) *Engine {
	return &Engine{catalogs, indexProofs(proofs)}
}

// side is one end of a migration, resolved from an inventory as far as it does
// not depend on the other end.
type side struct {
	inv     *inventory.Inventory
	parent  *inventory.Parent
	name    inventory.TypeName
	label   inventory.Value
	api     inventory.Value
	attrs   *inventory.Attributes // of the type
	device  *inventory.Attributes // of the instance; nil for one not made yet
	typ     *inventory.Type       // nil when the parent does not list it
	catalog *Catalog
	rules   []*Rule
	free    []named // type attributes that no rule is about, by name
	build   Build
	shape   string
	shaped  bool // the shape is known
	can     inventory.Answer
	canFrom string
}

// Source is a device to be moved.
type Source struct {
	side
	ID        string
	contract  *inventory.Contract
	unread    bool     // a contract may exist
	values    []given  // for each rule
	uncovered []string // the device's attributes that no rule is about, sorted
	promised  []named  // the contract's type attributes that no rule is about, by name
}

// given is what a device has for one rule.
type given struct {
	now, promised inventory.Value
	isPromised    bool // the contract says something about the attribute
}

// taken is what a target has for one rule; high is the upper end of a range.
type taken struct{ value, high inventory.Value }

// Host is the name of the host the device is on.
func (s *Source) Host() string { return s.inv.Host.Name }

// Parent is the name of the parent the device is on.
func (s *Source) Parent() string { return s.parent.Name }

// Type is the type the device was created as.
func (s *Source) Type() inventory.TypeName { return s.name }

// Label is the vendor's name for the type.
func (s *Source) Label() inventory.Value { return s.label }

// Build is the build of the drivers behind the device.
func (s *Source) Build() *Build { return &s.build }

// Contract is what the device promised its guest, nil if nothing is recorded.
func (s *Source) Contract() *inventory.Contract { return s.contract }

// Offer is a type that a parent could create.
type Offer struct {
	side
	takes []taken // for each rule
	names []named // every type attribute, by name
}

// Host is the name of the offering host.
func (o *Offer) Host() string { return o.inv.Host.Name }

// Parent is the name of the offering parent.
func (o *Offer) Parent() string { return o.parent.Name }

// Type is the offered type as its parent lists it.
func (o *Offer) Type() *inventory.Type { return o.typ }

// Build is the build of the drivers behind the offer.
func (o *Offer) Build() *Build { return &o.build }

// noAttributes is what a type that nobody lists has: nothing was observed.
var noAttributes inventory.Attributes

// Source prepares a device of an inventory.
func (e *Engine) Source(inv *inventory.Inventory, dev *inventory.Device) *Source {
	p := inv.Parent(dev.Parent)
	end := e.side(inv, p, dev.Type, p.Type(dev.Type), dev.Migration)
	end.device = &dev.Attributes
	return newSource(end, dev.ID, dev.Contract, dev.ContractUnread)
}

// newSource looks up what the rules will ask of the device.
func newSource(end side, id string, contract *inventory.Contract, unread bool) *Source {
	s := &Source{side: end, ID: id, contract: contract, unread: unread, values: make([]given, len(end.rules))}
	for i, r := range s.rules {
		v := given{now: s.value(r.Of, r.Attribute)}
		switch {
		case contract == nil:
		case r.Of == OfType:
			v.promised, v.isPromised = contract.TypeAttributes.Get(r.Attribute), true
		case r.Of == OfDevice:
			v.promised, v.isPromised = contract.DeviceAttributes.Get(r.Attribute), true
		}
		s.values[i] = v
	}
	for name, v := range s.device.Values {
		if v.State() != inventory.Absent {
			s.uncovered = append(s.uncovered, name)
		}
	}
	s.uncovered = append(s.uncovered, s.device.Unread...)
	s.uncovered = slices.DeleteFunc(s.uncovered, func(name string) bool {
		return slices.ContainsFunc(s.rules, func(r *Rule) bool { return r.Of == OfDevice && r.Attribute == name })
	})
	slices.Sort(s.uncovered)
	if contract != nil {
		s.promised = slices.DeleteFunc(sorted(&contract.TypeAttributes), s.judgesNamed)
	}
	return s
}

// Offers prepares every type that the host's parents list, in their order.
func (e *Engine) Offers(inv *inventory.Inventory) []*Offer {
	var offers []*Offer
	for i := range inv.Parents {
		p := &inv.Parents[i]
		for j := range p.Types {
			offers = append(offers, e.offer(inv, p, &p.Types[j]))
		}
	}
	return offers
}

func (e *Engine) offer(inv *inventory.Inventory, p *inventory.Parent, t *inventory.Type) *Offer {
	o := &Offer{side: e.side(inv, p, t.TypeName, t, nil)}
	o.names = sorted(o.attrs)
	o.takes = make([]taken, len(o.rules))
	for i, r := range o.rules {
		o.takes[i] = o.taken(r)
	}
	return o
}

// taken looks up what the target has for a rule. The target has no instance
// yet, so an attribute of the device is compared with one of the type.
func (s *side) taken(r *Rule) taken {
	of := r.Of
	if of == OfDevice {
		of = OfType
	}
	switch {
	case r.Kind == Range:
		return taken{s.value(of, r.Min), s.value(of, r.Max)}
	case r.Against != "":
		return taken{value: s.value(of, r.Against)}
	}
	return taken{value: s.value(of, r.Attribute)}
}

// sameRules reports whether both ends have one list of rules.
func (s *side) sameRules(o *side) bool {
	return s.name == o.name && s.catalog == o.catalog && s.parent.Kind == o.parent.Kind
}

// judges reports whether a rule is about the type's attribute.
func (s *side) judges(attr string) bool {
	for _, r := range s.rules {
		if r.about(attr) {
			return true
		}
	}
	return false
}

// Home is the offer that the device's own parent makes of its own type, nil
// when the parent does not list it: the target of the way back.
func (e *Engine) Home(s *Source) *Offer {
	if s.typ == nil {
		return nil
	}
	return e.offer(s.inv, s.parent, s.typ)
}

// Arrived is the device as it would be after moving to the offer: of the
// offered type, with the attributes the offer has and the ones carried over,
// still under the contract with its guest. Checking it against Home answers
// the way back.
func (e *Engine) Arrived(s *Source, o *Offer) *Source {
	end := o.side
	end.device = s.device
	return newSource(end, s.ID, s.contract, s.unread)
}

func (e *Engine) side(inv *inventory.Inventory, p *inventory.Parent, name inventory.TypeName, t *inventory.Type, shown *inventory.Migration) side {
	s := side{inv: inv, parent: p, name: name, typ: t, attrs: &noAttributes}
	if t != nil {
		s.label, s.api, s.attrs = t.Label, t.DeviceAPI, &t.Attributes
		if shown == nil || shown.Can != inventory.Yes && shown.Can != inventory.No {
			shown = t.Migration
		}
	}
	s.catalog = e.catalogs.For(name.Namespace)
	if s.catalog != nil {
		for i := range s.catalog.Rules {
			if s.catalog.Rules[i].covers(name.Name) {
				s.rules = append(s.rules, &s.catalog.Rules[i])
			}
		}
		s.shape, s.shaped = shape(s.catalog.Proof.Shaping, s.attrs)
	} else {
		s.shaped = true
	}
	s.rules = append(s.rules, functionRules(p, s.rules)...)
	s.free = slices.DeleteFunc(sorted(s.attrs), s.judgesNamed)
	s.build = makeBuild(s.catalog, inv, p, t)
	s.can, s.canFrom = s.migration(shown)
	return s
}

// named is an attribute with its value.
type named struct {
	name  string
	value inventory.Value
}

// sorted lists what is in a set of attributes, by name.
func sorted(a *inventory.Attributes) []named {
	list := make([]named, 0, len(a.Values)+len(a.Unread))
	for name, v := range a.Values {
		list = append(list, named{name, v})
	}
	for _, name := range a.Unread {
		list = append(list, named{name, inventory.Value{}})
	}
	slices.SortFunc(list, func(a, b named) int { return strings.Compare(a.name, b.name) })
	return list
}

func (s *side) judgesNamed(n named) bool { return s.judges(n.name) }

// about reports whether the rule judges, or is judged against, an attribute of
// a type.
func (r *Rule) about(attr string) bool {
	return r.Of == OfType && (r.Attribute == attr || r.Against == attr || r.Min == attr || r.Max == attr) ||
		r.Of == OfDevice && (r.Against == attr || r.Min == attr || r.Max == attr)
}

// vfRules hold for the attributes of PCI functions that a catalog is silent
// about: the guest sees them.
var vfRules = sync.OnceValue(func() []*Rule {
	var rules []*Rule
	for _, name := range []string{"bars", "class", "revision", "subsystem_device", "subsystem_vendor"} {
		rules = append(rules, &Rule{Attribute: name, Of: OfType, Kind: Equal, Source: "the guest sees it, and no catalog says that it may differ"})
	}
	return rules
})

func functionRules(p *inventory.Parent, given []*Rule) []*Rule {
	if p.Kind != inventory.FunctionParent {
		return nil
	}
	var rules []*Rule
	for _, r := range vfRules() {
		if !slices.ContainsFunc(given, func(g *Rule) bool { return g.about(r.Attribute) }) {
			rules = append(rules, r)
		}
	}
	return rules
}

// migration says whether this end can migrate, and what tells so. Catalog and
// observation are both asked; one that forbids wins.
func (s *side) migration(shown *inventory.Migration) (inventory.Answer, string) {
	can, from := s.catalogued()
	switch {
	case shown == nil || shown.Can != inventory.Yes && shown.Can != inventory.No:
		return can, from
	case shown.Can == inventory.No, can != inventory.No:
		return shown.Can, shown.Source
	}
	return can, from
}

func (s *side) catalogued() (inventory.Answer, string) {
	if s.catalog == nil {
		return inventory.Unknown, ""
	}
	for i := range s.catalog.Migration {
		m := &s.catalog.Migration[i]
		if ok, err := path.Match(m.Namespace, s.name.Namespace); m.Namespace != "" && (err != nil || !ok) || !matchGlob(m.Types, s.name.Name) {
			continue
		}
		if m.Kernel != "" {
			older, known := olderKernel(s.inv.Host.Kernel.Release, m.Kernel)
			if !known {
				return inventory.Unknown, m.Source
			}
			if !older {
				continue
			}
		}
		return m.Can, m.Source
	}
	return inventory.Unknown, ""
}

// olderKernel compares the first two numbers of a kernel release.
func olderKernel(release inventory.Value, than string) (older, known bool) {
	text, ok := release.Get()
	if !ok {
		return false, false
	}
	end := 0
	for end < len(text) && (text[end] == '.' || text[end] >= '0' && text[end] <= '9') {
		end++
	}
	major, minor, ok := parseVersion(text[:end])
	wantMajor, wantMinor, ok2 := parseVersion(than)
	return major < wantMajor || major == wantMajor && minor < wantMinor, ok && ok2
}

// value returns one attribute of this end.
func (s *side) value(of Place, name string) inventory.Value {
	switch of {
	case OfType:
		return s.attrs.Get(name)
	case OfDevice:
		if s.device == nil {
			return inventory.Value{}
		}
		return s.device.Get(name)
	case OfParent:
		return s.parent.Attributes.Get(name)
	case OfFirmware:
		return s.parent.Firmware.Get(name)
	case OfDescription:
		if s.typ == nil {
			return inventory.Value{}
		}
		return described(s.typ.Description, name)
	case OfFact:
		return fact(s.inv, s.parent, s.typ, name)
	case OfHost:
		h := &s.inv.Host
		switch name {
		case "os":
			id, ok := h.OS.ID.Get()
			version, ok2 := h.OS.VersionID.Get()
			if ok && ok2 {
				return inventory.Of(id + " " + version)
			}
			return inventory.Value{}
		case "kernel.release":
			return h.Kernel.Release
		case "kernel.arch":
			return h.Kernel.Arch
		case "os.id":
			return h.OS.ID
		case "os.version_id":
			return h.OS.VersionID
		case "qemu":
			return h.QEMU
		case "libvirt":
			return h.Libvirt
		}
	}
	return inventory.Value{}
}

// Instance is a device as the offer would make it, with no guest yet: for
// asking about a type rather than about a device.
func (e *Engine) Instance(o *Offer) *Source {
	end := o.side
	end.device = &inventory.Attributes{Complete: true}
	return newSource(end, "", nil, false)
}
