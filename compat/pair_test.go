// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"reflect"
	"testing"
	"time"

	"kindred/inventory"
)

// pair is one device and one offer with everything that is known of them. The
// zero change makes a compatible pair; cases change one thing of it.
type pair struct {
	from, to *inventory.Inventory
	catalog  *Catalog // of namespace ns; nil: none
	other    *Catalog // of another namespace; nil: none
	prove    func(s *Source, o *Offer) []Proof
}

func newPair() *pair {
	return &pair{from: newHost("one"), to: newHost("two"), catalog: newCatalog()}
}

func newCatalog() *Catalog {
	return &Catalog{
		Name: "test", Schema: CatalogSchema, Namespaces: []string{"ns"},
		Migration: []Migration{{Can: inventory.Yes, Source: "test"}},
		Build:     BuildParts{Modules: []string{"m"}},
		Rules:     []Rule{attributeRule(Equal)},
	}
}

// attributeRule compares the type attribute a.
func attributeRule(kind RuleKind) Rule {
	return Rule{Attribute: "a", Of: OfType, Kind: kind, Source: "test"}
}

func newHost(name string) *inventory.Inventory {
	return &inventory.Inventory{
		Schema: inventory.Schema, Origin: inventory.FromSimulator,
		Host: inventory.Host{Name: name, Kernel: inventory.Kernel{Release: inventory.Of("6.12.3-test")}},
		Modules: []inventory.Module{{
			Name: "m", BuildID: inventory.Of("b1"),
			Parameters: inventory.Attributes{Complete: true},
		}},
		Parents: []inventory.Parent{{
			Name: "p", Kind: inventory.MdevParent, Namespace: "ns", Modules: []string{"m"},
			Firmware: inventory.Attributes{Complete: true},
			Types: []inventory.Type{{
				TypeName: inventory.TypeName{Namespace: "ns", Name: "t"},
				Label:    inventory.Of("T"), DeviceAPI: inventory.Of("vfio-pci"),
				Creatable: inventory.Yes, ListedBy: inventory.ListedByKernel,
				Attributes: attributes("a", "1"),
			}},
		}},
		Devices: []inventory.Device{{
			ID: "d", Kind: inventory.Mdev, Parent: "p", Type: inventory.TypeName{Namespace: "ns", Name: "t"},
			InUse: inventory.No, Attributes: inventory.Attributes{Complete: true},
		}},
	}
}

func attributes(namesAndValues ...string) inventory.Attributes {
	a := inventory.Attributes{Complete: true}
	for i := 0; i < len(namesAndValues); i += 2 {
		a.Set(namesAndValues[i], namesAndValues[i+1])
	}
	return a
}

func (p *pair) device() *inventory.Device { return &p.from.Devices[0] }
func (p *pair) fromType() *inventory.Type { return &p.from.Parents[0].Types[0] }
func (p *pair) toType() *inventory.Type   { return &p.to.Parents[0].Types[0] }
func (p *pair) rule(r Rule)               { p.catalog.Rules = []Rule{r} }
func (p *pair) otherBuild()               { p.to.Modules[0].BuildID = inventory.Of("b2") }
func (p *pair) toTypeNamed(ns, name string) {
	p.toType().TypeName = inventory.TypeName{Namespace: ns, Name: name}
}
func (p *pair) contract() *inventory.Contract { return p.device().Contract }

// promise records a contract that says what the device is now.
func (p *pair) promise() {
	t := p.fromType()
	p.device().Contract = &inventory.Contract{
		Type: t.TypeName, Label: t.Label, DeviceAPI: t.DeviceAPI,
		TypeAttributes:   attributes("a", "1"),
		DeviceAttributes: inventory.Attributes{Complete: true},
	}
}

// equivalent offers ns-u instead of ns-t, and declares both equivalent.
func (p *pair) equivalent() {
	p.toTypeNamed("ns", "u")
	p.catalog.Equivalent = []Equivalence{{Types: []FullName{{"ns", "t"}, {"ns", "u"}}, Source: "test"}}
}

// ratio is equivalent, with a device whose size stands in an attribute.
func (p *pair) ratio(value string, units, per int) {
	p.equivalent()
	p.catalog.Equivalent[0].Ratio = &Ratio{Attribute: "size", Units: []int{units, per}}
	p.catalog.Rules = append(p.catalog.Rules, Rule{Attribute: "size", Of: OfDevice, Kind: Copy, Source: "test"})
	p.device().Attributes.Set("size", value)
}

// proved adds a proof about this very pair after each change of it was made.
func (p *pair) proved(change func(*Proof)) {
	before := p.prove
	p.prove = func(s *Source, o *Offer) []Proof {
		var list []Proof
		if before != nil {
			list = before(s, o)
		}
		proof := proofOf(s, o)
		change(&proof)
		return append(list, proof)
	}
}

// proofOf is an accepted proof about the pair.
func proofOf(s *Source, o *Offer) Proof {
	return Proof{
		SourceType: s.name, TargetType: o.name, SourceBuild: s.build.ID, TargetBuild: o.build.ID,
		SourceShape: s.shape, TargetShape: o.shape,
		Grade: WorkingState, Result: Accepted, Controls: true, Tries: 2,
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

func (p *pair) engine(t testing.TB, proofs []Proof) *Engine {
	t.Helper()
	var list []*Catalog
	for _, c := range []*Catalog{p.catalog, p.other} {
		if c != nil {
			list = append(list, c)
		}
	}
	cs, err := NewCatalogs(nil, list)
	if err != nil {
		t.Fatal(err)
	}
	return NewEngine(cs, proofs)
}

// check judges the pair, and holds Outcome against Check while at it.
func (p *pair) check(t testing.TB) Verdict {
	t.Helper()
	e := p.engine(t, nil)
	if p.prove != nil {
		s, o := e.Source(p.from, p.device()), e.Offers(p.to)[0]
		e = p.engine(t, p.prove(s, o))
	}
	s, o := e.Source(p.from, p.device()), e.Offers(p.to)[0]
	v := e.Check(s, o)
	if got := e.Outcome(s, o); got != v.Outcome {
		t.Errorf("Outcome says %s, Check says %s", got, v.Outcome)
	}
	if again := e.Check(s, o); !reflect.DeepEqual(v, again) {
		t.Errorf("the same question was answered differently:\n%+v\n%+v", v, again)
	}
	return v
}

func has(v *Verdict, code Code) bool {
	for i := range v.Findings {
		if v.Findings[i].Code == code {
			return true
		}
	}
	return false
}
