// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kindred/inventory"
)

// world is a few hosts with everything that is known of their drivers. Names
// and values come from small pools, so that they meet.
//
// What package compat excludes from its promise is not generated: a catalog
// and an observation that contradict each other about migration, and one fact
// stated at two places.
type world struct {
	inventories []*inventory.Inventory
	catalogs    []*Catalog
	proofs      []Proof
}

var (
	worldTypes = []inventory.TypeName{{Namespace: "ns", Name: "t"}, {Namespace: "ns", Name: "u"}, {Namespace: "nt", Name: "t"}}
	worldNames = []string{"a", "b", "c"}
	worldTexts = []string{"1", "2", "0x3", "1.2", "1.3", "2.0", "x", "1 2", "x,y"}
	allKinds   = []RuleKind{Equal, Superset, AtLeast, AtMost, SemVer, Range, OneOf, Copy, Ignore}
)

func pick[T any](t *rapid.T, what string, from ...T) T { return rapid.SampledFrom(from).Draw(t, what) }

// chance is true once in n times.
func chance(t *rapid.T, what string, n int) bool { return rapid.IntRange(1, n).Draw(t, what) == n }

func genText(t *rapid.T) string {
	if chance(t, "rare text", 8) {
		return rapid.SampledFrom(worldTexts).Draw(t, "text")
	}
	return "1.2"
}

func genValue(t *rapid.T, texts ...string) inventory.Value {
	switch rapid.IntRange(1, 30).Draw(t, "state") {
	case 29:
		return inventory.None()
	case 30:
		return inventory.Value{}
	}
	return inventory.Of(rapid.SampledFrom(texts).Draw(t, "text"))
}

func genAttributes(t *rapid.T, names ...string) inventory.Attributes {
	a := inventory.Attributes{Complete: !chance(t, "incomplete", 30)}
	for _, name := range names {
		switch rapid.IntRange(1, 30).Draw(t, name) {
		case 30:
			a.Unread = append(a.Unread, name)
		case 28, 29: // known absent, if anything is
		default:
			a.Set(name, genText(t))
		}
	}
	return a
}

func genCatalog(t *rapid.T, namespace string) *Catalog {
	c := &Catalog{Name: namespace, Schema: CatalogSchema, Namespaces: []string{namespace}}
	if chance(t, "by label", 4) {
		c.Identity = ByLabel
	}
	switch rapid.IntRange(1, 8).Draw(t, "migration") {
	case 8:
	case 7:
		c.Migration = []Migration{{Can: inventory.No}}
	case 5, 6:
		c.Migration = []Migration{{Can: inventory.No, Kernel: "6.7"}, {Can: inventory.Yes}}
	default:
		c.Migration = []Migration{{Can: inventory.Yes}}
	}
	if chance(t, "shaping", 3) {
		c.Proof.Shaping = []string{"a"}
	}
	for _, name := range worldNames {
		if chance(t, "no rule", 6) {
			continue
		}
		r := Rule{
			Attribute: name, Of: OfType, Source: "test",
			Kind:   rapid.SampledFrom(allKinds).Draw(t, "rule"),
			Absent: pick(t, "absence", Absence{}, Absence{Off: true}, Absence{Alike: true}, Absence{Default: "1.2"}),
			Types:  pick(t, "types", "", "", "t"),
			Form:   pick(t, "form", "", Text, Number, List),
		}
		if chance(t, "otherwise", 6) {
			r.Otherwise = Unknown
		}
		if chance(t, "refused", 6) {
			r.Refused = []Pair{{"1*", "2*"}, {"x", "*"}}
		}
		switch r.Kind {
		case Range:
			r.Min, r.Max = "a", "b"
		case Superset:
			r.Form = pick(t, "form", "", List, BitMask)
		case Copy:
			r.Of = OfDevice
		case Ignore:
			r.Of = pick(t, "of", OfType, OfDevice)
		default:
			r.Of = pick(t, "of", OfType, OfType, OfType, OfParent, OfFirmware, OfFact, OfDescription)
		}
		if r.Kind == Copy || r.Kind == Ignore { // they compare nothing
			r.Refused, r.Otherwise = nil, 0
		}
		c.Rules = append(c.Rules, r)
	}
	if chance(t, "of the host", 4) {
		c.Rules = append(c.Rules, Rule{Attribute: pick(t, "which", "qemu", "os.id"), Of: OfHost, Kind: pick(t, "how", Equal, AtLeast, SemVer), Source: "test"})
	}
	if !chance(t, "no build", 4) {
		c.Build.Modules = []string{"m"}
		if chance(t, "parameters", 3) {
			c.Build.Parameters = []string{pick(t, "parameter", "m/a", "m/*")}
		}
		if chance(t, "firmware", 3) {
			c.Build.Firmware = []string{"a"}
			if chance(t, "versions", 2) {
				c.Build.Versions = []VersionRule{{Part: "firmware:a", Rule: pick(t, "how", SemVer, AtLeast, AtMost)}}
			}
		}
		if chance(t, "facts", 4) {
			c.Build.Facts = []string{"b"}
		}
	}
	if chance(t, "epoch", 3) {
		c.Epochs = []Epoch{{Name: "e", Builds: []Selector{{"module:m": "b[12]"}}}}
	}
	if chance(t, "known bad", 4) {
		c.KnownBad = []KnownBad{{Builds: []Selector{{"module:m": pick(t, "bad", "b1", "b3")}}, Role: pick(t, "role", "", "source", "target"), Reason: "test"}}
	}
	if chance(t, "equivalent", 2) {
		c.Equivalent = []Equivalence{{Types: []FullName{{"ns", "t"}, {"ns", "u"}, {"nt", "t"}}}}
		if i := slices.IndexFunc(c.Rules, func(r Rule) bool { return r.Kind == Copy }); i >= 0 && chance(t, "ratio", 2) {
			c.Equivalent[0].Ratio = &Ratio{Attribute: c.Rules[i].Attribute, Units: pick(t, "units", []int{1, 2, 4}, []int{3, 1, 2})}
		}
	}
	c.Proof.Lowest = pick(t, "lowest", 0, FreshState)
	return c
}

// evidence draws what was observed of a type, agreeing with the catalog.
func evidence(t *rapid.T, c *Catalog, kernel inventory.Value) *inventory.Migration {
	truth := pick(t, "truth", inventory.Yes, inventory.Yes, inventory.Yes, inventory.No)
	if c != nil && len(c.Migration) == 1 {
		truth = c.Migration[0].Can
	}
	if c != nil && len(c.Migration) == 2 {
		truth = inventory.Yes
		if older, known := olderKernel(kernel, "6.7"); older && known {
			truth = inventory.No
		}
	}
	switch rapid.IntRange(0, 3).Draw(t, "evidence") {
	case 0:
		return nil
	case 1:
		return &inventory.Migration{Can: inventory.Unknown, Source: "probe"}
	}
	return &inventory.Migration{Can: truth, Source: "debugfs"}
}

// factPlaces are the levels a fact can be stated at; a world uses one level
// for each name.
func (w *world) genHost(t *rapid.T, name string, factLevel map[string]int) *inventory.Inventory {
	inv := &inventory.Inventory{
		Schema: inventory.Schema, Origin: inventory.FromSimulator, Taken: time.Unix(1e9, 0).UTC(),
		Host: inventory.Host{
			Name:   name,
			Kernel: inventory.Kernel{Release: genValue(t, "6.12.0", "6.12.0", "6.12.0-rc1", "6.6.1", "strange")},
			OS:     inventory.OS{ID: genValue(t, "a", "a", "b")},
			QEMU:   genValue(t, "1.2", "1.2", "1.3"),
		},
	}
	facts := func(level int) inventory.Facts {
		f := inventory.Facts{}
		for _, name := range worldNames {
			if factLevel[name] == level && !chance(t, "no fact", 5) {
				f[name] = inventory.Fact{Value: inventory.Of(genText(t)), Source: "test"}
			}
		}
		return f
	}
	inv.Host.Facts = facts(0)
	for _, module := range []string{"m", "n"} {
		if !chance(t, "no module", 10) {
			inv.Modules = append(inv.Modules, inventory.Module{
				Name: module, BuildID: genValue(t, "b1", "b1", "b1", "b1", "b2", "b3"), SrcVersion: genValue(t, "s1", "s1", "s2"),
				Parameters: genAttributes(t, "a"),
			})
		}
	}
	for i := range rapid.IntRange(1, 2).Draw(t, "parents") {
		p := inventory.Parent{
			Name: fmt.Sprint("p", i), Kind: pick(t, "kind", inventory.MdevParent, inventory.MdevParent, inventory.FunctionParent),
			Namespace: "ns", Modules: []string{"m", "n"},
			Firmware: genAttributes(t, "a", "b"), Attributes: genAttributes(t, "a", "b", "c"), Facts: facts(1),
		}
		for _, typ := range worldTypes {
			if chance(t, "not offered", 4) {
				continue
			}
			p.Types = append(p.Types, inventory.Type{
				TypeName: typ, Label: genValue(t, "L", "L", "M"), Description: genValue(t, "a=1, b=2", "a: 1\nb: 2", "a=2", "prose"), DeviceAPI: genValue(t, "vfio-pci", "vfio-pci", "vfio-pci", "vfio-ap"),
				Creatable: inventory.Yes, ListedBy: inventory.ListedByKernel, Attributes: genAttributes(t, "a", "b", "c"),
				Migration: evidence(t, w.catalog(typ.Namespace), inv.Host.Kernel.Release), Facts: facts(2),
			})
		}
		inv.Parents = append(inv.Parents, p)
	}
	for i := range rapid.IntRange(1, 2).Draw(t, "devices") {
		p := &inv.Parents[i%len(inv.Parents)]
		d := inventory.Device{
			ID: fmt.Sprint(name, "-d", i), Kind: inventory.Mdev, Parent: p.Name, Type: pick(t, "type", worldTypes[0], worldTypes[0], worldTypes[1], worldTypes[2]),
			InUse: inventory.Yes, Attributes: inventory.Attributes{Complete: true},
		}
		typ := p.Type(d.Type)
		if chance(t, "own attributes", 2) {
			d.Attributes = genAttributes(t, pick(t, "own", "a", "b"))
		}
		if typ == nil {
			d.Migration = evidence(t, w.catalog(d.Type.Namespace), inv.Host.Kernel.Release)
		} else if typ.Migration != nil && chance(t, "own evidence", 2) {
			d.Migration = &inventory.Migration{Can: pick(t, "own", typ.Migration.Can, inventory.Unknown), Source: "probe"}
		}
		switch rapid.IntRange(0, 3).Draw(t, "contract") {
		case 0:
			d.ContractUnread = chance(t, "contract unread", 4)
		case 1:
			d.Contract = &inventory.Contract{
				Type: d.Type, Label: inventory.Of("L"), DeviceAPI: genValue(t, "vfio-pci", "vfio-pci", "vfio-ap"),
				TypeAttributes: genAttributes(t, "a", "b", "c"), DeviceAttributes: genAttributes(t, "a"),
			}
			if chance(t, "promised another type", 6) {
				d.Contract.Type = worldTypes[1]
			}
		default:
			if typ != nil {
				d.Contract = &inventory.Contract{Type: d.Type, Label: typ.Label, DeviceAPI: typ.DeviceAPI, TypeAttributes: clone(typ.Attributes), DeviceAttributes: clone(d.Attributes)}
			}
		}
		inv.Devices = append(inv.Devices, d)
	}
	return inv
}

func (w *world) catalog(namespace string) *Catalog {
	for _, c := range w.catalogs {
		if slices.Contains(c.Namespaces, namespace) {
			return c
		}
	}
	return nil
}

func genWorld(t *rapid.T) *world {
	w := new(world)
	for _, namespace := range []string{"ns", "nt"} {
		if !chance(t, "no catalog", 6) {
			w.catalogs = append(w.catalogs, genCatalog(t, namespace))
		}
	}
	level := make(map[string]int)
	for _, name := range worldNames {
		level[name] = rapid.IntRange(0, 2).Draw(t, "fact level")
	}
	first := w.genHost(t, "h0", level)
	w.inventories = append(w.inventories, first)
	for i := range rapid.IntRange(1, 2).Draw(t, "more hosts") {
		name := fmt.Sprint("h", i+1)
		if chance(t, "unlike", 3) {
			w.inventories = append(w.inventories, w.genHost(t, name, level))
			continue
		}
		// Like the first but for a few facts, so that much is compatible.
		inv := clone(first)
		inv.Host.Name = name
		for j := range inv.Devices {
			inv.Devices[j].ID = fmt.Sprint(name, "-d", j)
		}
		for range rapid.IntRange(0, 2).Draw(t, "differences") {
			p := &inv.Parents[rapid.IntRange(0, len(inv.Parents)-1).Draw(t, "parent")]
			switch {
			case chance(t, "module", 3) && len(inv.Modules) > 0:
				inv.Modules[0].BuildID = genValue(t, "b1", "b2", "b3")
			case chance(t, "firmware", 3):
				p.Firmware.Set("a", genText(t))
			case len(p.Types) > 0:
				p.Types[0].Attributes.Set(rapid.SampledFrom(worldNames).Draw(t, "attribute"), genText(t))
			}
		}
		w.inventories = append(w.inventories, inv)
	}
	// Proofs are about pairs of this world.
	e := w.engine(t)
	sources, offers := w.sources(e), w.offers(e)
	for i := range rapid.IntRange(0, 4).Draw(t, "proofs") {
		if len(offers) == 0 {
			break
		}
		p := proofOf(rapid.SampledFrom(sources).Draw(t, "source"), rapid.SampledFrom(offers).Draw(t, "offer"))
		p.Result = pick(t, "result", Accepted, Accepted, Rejected, Inconclusive)
		p.Grade = pick(t, "grade", HeaderOnly, FreshState, WorkingState, Observed)
		p.Time = p.Time.Add(time.Duration(i) * time.Hour)
		w.proofs = append(w.proofs, p)
	}
	return w
}

type fatal interface{ Fatal(args ...any) }

func (w *world) engine(t fatal) *Engine {
	cs, err := NewCatalogs(nil, w.catalogs)
	if err != nil {
		t.Fatal(err)
	}
	return NewEngine(cs, w.proofs)
}

func (w *world) sources(e *Engine) (list []*Source) {
	for _, inv := range w.inventories {
		for i := range inv.Devices {
			list = append(list, e.Source(inv, &inv.Devices[i]))
		}
	}
	return list
}

func (w *world) offers(e *Engine) (list []*Offer) {
	for _, inv := range w.inventories {
		list = append(list, e.Offers(inv)...)
	}
	return list
}

// verdicts of every device against every offer.
func (w *world) verdicts(t fatal) map[string]Verdict {
	e := w.engine(t)
	all := make(map[string]Verdict)
	offers := w.offers(e)
	for _, s := range w.sources(e) {
		for _, o := range offers {
			all[fmt.Sprintf("%s to %s %s %+v", s.ID, o.Host(), o.Parent(), o.name)] = e.Check(s, o)
		}
	}
	return all
}

// outcomes of every device against every offer, both by their places in the
// inventories, which stay when a fact goes.
func (w *world) outcomes(t fatal) (list []Outcome, name func(i int) string) {
	e := w.engine(t)
	sources, offers := w.sources(e), w.offers(e)
	for _, s := range sources {
		for _, o := range offers {
			list = append(list, e.Outcome(s, o))
		}
	}
	return list, func(i int) string {
		s, o := sources[i/len(offers)], offers[i%len(offers)]
		v := e.Check(s, o)
		text := fmt.Sprintf("%s (%+v) to %s %s %+v: %s", s.ID, s.name, o.Host(), o.Parent(), o.name, v.Outcome)
		for _, f := range v.Findings {
			text += fmt.Sprintf("\n      %-12s %-22s %s", f.Outcome, f.Code, f.Text())
		}
		return text
	}
}

// clone copies everything that v points to.
func clone[T any](v T) T {
	to := reflect.New(reflect.TypeOf(&v).Elem()).Elem()
	copyInto(to, reflect.ValueOf(&v).Elem())
	return to.Interface().(T)
}

func copyInto(to, from reflect.Value) {
	to.Set(from)
	switch from.Kind() {
	case reflect.Pointer:
		if !from.IsNil() {
			to.Set(reflect.New(from.Type().Elem()))
			copyInto(to.Elem(), from.Elem())
		}
	case reflect.Slice:
		if !from.IsNil() {
			to.Set(reflect.MakeSlice(from.Type(), from.Len(), from.Len()))
			for i := range from.Len() {
				copyInto(to.Index(i), from.Index(i))
			}
		}
	case reflect.Map:
		if !from.IsNil() {
			to.Set(reflect.MakeMap(from.Type()))
			for _, key := range from.MapKeys() {
				to.SetMapIndex(key, from.MapIndex(key)) // values of maps are plain
			}
		}
	case reflect.Struct:
		for i := range from.NumField() {
			if from.Type().Field(i).IsExported() {
				copyInto(to.Field(i), from.Field(i))
			}
		}
	}
}

// removal walks an inventory and removes the fact whose number is left, in an
// order that is the same for equal inventories. A type that is added to the
// vocabulary is walked without being named here.
type removal struct {
	left int
	done bool
	what string
}

// try counts one fact, and removes it if it is its turn.
func (r *removal) try(what string, remove func()) {
	if r.done {
		return
	}
	if r.left == 0 {
		remove()
		r.done, r.what = true, what
	}
	r.left--
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (r *removal) walk(path string, v reflect.Value) {
	if r.done {
		return
	}
	switch at := v.Addr().Interface().(type) {
	case *inventory.Value:
		if at.State() != inventory.NotObserved {
			r.try(path+" not observed", func() { *at = inventory.Value{} })
		}
		return
	case *inventory.Attributes:
		for _, name := range worldNames { // also those that are known absent
			if at.Get(name).State() != inventory.NotObserved {
				r.try(path+" forgets "+name, func() { at.Forget(name) })
			}
		}
		if at.Complete {
			r.try(path+" incomplete", func() { at.Complete = false })
		}
		if !at.IsZero() {
			r.try(path+" not read", func() { *at = inventory.Attributes{} })
		}
		return
	case *inventory.Facts:
		for _, name := range sortedKeys(*at) {
			r.try(path+" loses "+name, func() { delete(*at, name) })
			r.try(path+" has not observed "+name, func() { (*at)[name] = inventory.Fact{} })
		}
		return
	case **inventory.Migration:
		if *at != nil {
			r.try(path+" not observed", func() { *at = nil })
		}
	case *inventory.Answer:
		if *at != inventory.Unknown {
			r.try(path+" unknown", func() { *at = inventory.Unknown })
		}
		return
	case *inventory.TypeName:
		r.try(path+" without namespace", func() { at.Namespace = "" })
		r.try(path+" without name", func() { at.Name = "" })
		return
	case *inventory.Device:
		if at.Contract != nil {
			r.try(path+" has its contract unread", func() { at.Contract, at.ContractUnread = nil, true })
		}
	case *[]inventory.Module:
		for i, m := range *at {
			r.try(path+" drops "+m.Name, func() { *at = slices.Delete(*at, i, i+1) })
		}
	case *[]inventory.Warning, *time.Time:
		return
	}
	if r.done {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			r.walk(path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			r.walk(fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			r.walk(path, v.Elem())
		}
	}
}

// without is the inventory without its nth fact, nil when it has no more.
func (w *world) without(inv *inventory.Inventory, n int) (*inventory.Inventory, string) {
	c := clone(inv)
	r := removal{left: n}
	r.walk(inv.Host.Name, reflect.ValueOf(c).Elem())
	if !r.done {
		return nil, ""
	}
	return c, r.what
}

// TestRemovingAFact is principle six: what is not known cannot turn one
// definite answer into the other, and never makes an unknown definite.
func TestRemovingAFact(t *testing.T) {
	var kept, unknown [3]int
	rapid.Check(t, func(t *rapid.T) {
		w := genWorld(t)
		before, describe := w.outcomes(t)
		for k, inv := range w.inventories {
			for n := 0; ; n++ {
				poorer, what := w.without(inv, n)
				if poorer == nil {
					break
				}
				v := &world{slices.Clone(w.inventories), w.catalogs, w.proofs}
				v.inventories[k] = poorer
				after, describeAfter := v.outcomes(t)
				for i := range before {
					switch after[i] {
					case before[i]:
						kept[before[i]]++
					case Unknown:
						unknown[before[i]]++
					default:
						t.Fatalf("%s\n  before %s\n  after  %s", what, describe(i), describeAfter(i))
					}
				}
			}
		}
	})
	t.Logf("kept %v, became unknown %v (compatible, unknown, incompatible)", kept, unknown)
	if !t.Failed() && (kept[Compatible] == 0 || kept[Incompatible] == 0 || unknown[Compatible] == 0 || unknown[Incompatible] == 0) {
		t.Error("the worlds are too plain to show anything")
	}
}

// TestRemovalsAreComplete makes sure that the walk meets every kind of fact.
func TestRemovalsAreComplete(t *testing.T) {
	p := newPair()
	p.promise()
	p.fromType().Migration = &inventory.Migration{Can: inventory.Yes}
	p.from.Host.Facts = inventory.Facts{"a": {Value: inventory.Of("1")}}
	w := &world{}
	var got []string
	for n := 0; ; n++ {
		poorer, what := w.without(p.from, n)
		if poorer == nil {
			break
		}
		if cmp.Equal(poorer, p.from, cmp.AllowUnexported(inventory.Value{})) {
			t.Errorf("%s removes nothing", what)
		}
		got = append(got, what)
	}
	for _, want := range []string{
		"one.Host.Kernel.Release not observed", "one.Host.Facts loses a", "one.Modules drops m", "one.Modules[0].BuildID not observed",
		"one.Modules[0].Parameters incomplete", "one.Parents[0].Types[0].TypeName without name", "one.Parents[0].Types[0].Attributes forgets a",
		"one.Parents[0].Types[0].Migration not observed", "one.Devices[0] has its contract unread", "one.Devices[0].Contract.TypeAttributes forgets a",
		"one.Devices[0].Type without namespace", "one.Parents[0].Firmware incomplete", "one.Parents[0].Types[0].Label not observed",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is never removed", want)
		}
	}
}

func TestDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := genWorld(t)
		first := w.verdicts(t)
		if second := (&world{clone(w.inventories), w.catalogs, w.proofs}).verdicts(t); !reflect.DeepEqual(first, second) {
			t.Fatal(cmp.Diff(first, second, cmp.AllowUnexported(inventory.Value{})))
		}
		outcomes, _ := w.outcomes(t)
		var all []Outcome
		e := w.engine(t)
		offers := w.offers(e)
		for _, s := range w.sources(e) {
			for _, o := range offers {
				v := e.Check(s, o)
				all = append(all, v.Outcome)
				worst := Compatible
				for i := range v.Findings {
					worst = max(worst, v.Findings[i].Outcome)
				}
				if worst != v.Outcome || v.Type != o.name || v.Host != o.Host() || v.Parent != o.Parent() {
					t.Errorf("%+v is no verdict on %s %s %v", v, o.Host(), o.Parent(), o.name)
				}
			}
		}
		if diff := cmp.Diff(outcomes, all); diff != "" {
			t.Errorf("Outcome (-) and Check (+) differ:\n%s", diff)
		}
	})
}

// shuffled is the world with every list in another order.
func (w *world) shuffled(t *rapid.T) *world {
	s := &world{clone(w.inventories), w.catalogs, w.proofs}
	s.inventories = permuted(t, s.inventories)
	s.catalogs = permuted(t, s.catalogs)
	s.proofs = permuted(t, s.proofs)
	for _, inv := range s.inventories {
		inv.Modules, inv.Parents, inv.Devices = permuted(t, inv.Modules), permuted(t, inv.Parents), permuted(t, inv.Devices)
		for i := range inv.Parents {
			p := &inv.Parents[i]
			p.Types, p.Modules = permuted(t, p.Types), permuted(t, p.Modules)
			for j := range p.Types {
				p.Types[j].Attributes.Unread = permuted(t, p.Types[j].Attributes.Unread)
			}
		}
	}
	return s
}

func permuted[T any](t *rapid.T, list []T) []T {
	if len(list) < 2 {
		return list
	}
	return rapid.Permutation(list).Draw(t, "order")
}

func TestOrderIsIrrelevant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := genWorld(t)
		first, second := w.verdicts(t), w.shuffled(t).verdicts(t)
		if !reflect.DeepEqual(first, second) {
			t.Fatal(cmp.Diff(first, second, cmp.AllowUnexported(inventory.Value{})))
		}
	})
}

// TestDifferentNamesAreDifferent: without a declaration nothing makes two full
// names one type, and with one it is unknown until proved.
func TestDifferentNamesAreDifferent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := genWorld(t)
		for _, c := range w.catalogs {
			c.Identity = ByName
		}
		declared := len(w.catalogs) > 0 && slices.ContainsFunc(w.catalogs, func(c *Catalog) bool { return len(c.Equivalent) > 0 })
		e := w.engine(t)
		offers := w.offers(e)
		for _, s := range w.sources(e) {
			for _, o := range offers {
				v := e.Check(s, o)
				switch {
				case s.name == o.name:
				case !declared && v.Outcome != Incompatible:
					t.Errorf("%v to %v: %s", s.name, o.name, v.Outcome)
				case v.Outcome == Compatible && (!has(&v, TypeEquivalent) || !has(&v, ProofAccepted)):
					t.Errorf("%v to %v is compatible without a proof", s.name, o.name)
				}
			}
		}
	})
}

// TestSameHardwareIsNoSameType: types of different names stay different when
// everything else is equal, PCI ids too.
func TestSameHardwareIsNoSameType(t *testing.T) {
	p := newPair()
	pci := &inventory.PCI{Address: "0000:41:00.0", Vendor: inventory.Of("0x10de"), Device: inventory.Of("0x2235"), Revision: inventory.Of("0xa1"), BARs: inventory.Of("1000000")}
	p.from.Parents[0].PCI, p.to.Parents[0].PCI, p.device().PCI = pci, pci, pci
	p.toTypeNamed("ns", "t2")
	if v := p.check(t); v.Outcome != Incompatible || len(v.Findings) != 1 {
		t.Errorf("%s: %+v", v.Outcome, v.Findings)
	}
	p.proved(func(*Proof) {})
	if v := p.check(t); v.Outcome != Incompatible {
		t.Errorf("a proof made undeclared types one: %+v", v.Findings)
	}
}

// TestHomeIsCompatible: with everything observed, nothing known to be bad and
// no rejection, a device could be created anew where it is.
func TestHomeIsCompatible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPair()
		p.catalog = genCatalog(t, "ns")
		p.catalog.Migration, p.catalog.KnownBad = []Migration{{Can: inventory.Yes}}, nil
		// A value that fits the kind and form of any rule; a range asks that
		// the device lies in its own parent's, one-of that it is listed.
		for i := range p.catalog.Rules {
			r := &p.catalog.Rules[i]
			if r.Kind == SemVer {
				r.Kind = Equal
			}
		}
		text := pick(t, "text", "1", "7", "0x10")
		for _, a := range []*inventory.Attributes{&p.fromType().Attributes, &p.from.Parents[0].Attributes, &p.from.Parents[0].Firmware, &p.from.Modules[0].Parameters} {
			*a = attributes("a", text, "b", text, "c", text)
		}
		for _, r := range p.catalog.Rules {
			if r.Of == OfDevice {
				p.device().Attributes.Set(r.Attribute, text)
			}
		}
		p.fromType().Description = inventory.Of(fmt.Sprintf("a=%s, b=%s, c=%s", text, text, text))
		p.from.Host.Facts = inventory.Facts{"a": {Value: inventory.Of(text)}, "b": {Value: inventory.Of(text)}, "c": {Value: inventory.Of(text)}}
		p.from.Host.QEMU, p.from.Host.OS.ID = inventory.Of("9.1"), inventory.Of("9.1")
		if rapid.Bool().Draw(t, "contract") {
			p.promise()
			p.contract().TypeAttributes = clone(p.fromType().Attributes)
			p.contract().DeviceAttributes = clone(p.device().Attributes)
		}
		cs, err := NewCatalogs(nil, []*Catalog{p.catalog})
		if err != nil {
			t.Fatal(err)
		}
		e := NewEngine(cs, nil)
		s := e.Source(p.from, p.device())
		home := e.Home(s)
		if v := e.Check(s, home); v.Outcome != Compatible {
			t.Errorf("%s: %s", v.Outcome, v.Worst().Text())
		}
		if v := e.Check(e.Arrived(s, home), home); v.Outcome != Compatible {
			t.Errorf("after arriving: %s: %s", v.Outcome, v.Worst().Text())
		}
	})
}

// TestDirection: reversing the question of a rule that has a direction
// reverses its answer, for values that can be compared and differ.
func TestDirection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rule{Kind: pick(t, "rule", AtLeast, AtMost, SemVer, Superset)}
		var a, b string
		low := rapid.IntRange(0, 1000).Draw(t, "low")
		high := low + rapid.IntRange(1, 1000).Draw(t, "more")
		switch r.Kind {
		case SemVer:
			a, b = fmt.Sprintf("3.%d", low), fmt.Sprintf("3.%d.1", high)
		case Superset:
			r.Form = pick(t, "form", List, BitMask)
			a, b = "x", "y x"
			if r.Form == BitMask {
				a, b = fmt.Sprintf("%#x", low), fmt.Sprint(low|1<<20)
			}
		default:
			a, b = pick(t, "low", fmt.Sprint(low), fmt.Sprintf("%#x", low), fmt.Sprintf("%d.25", low)), pick(t, "high", fmt.Sprint(high), fmt.Sprintf("%#x", high), fmt.Sprintf("%d.5", high))
		}
		_, up := r.judge(inventory.Of(a), inventory.Of(b), inventory.Value{})
		_, down := r.judge(inventory.Of(b), inventory.Of(a), inventory.Value{})
		wantUp, wantDown := Compatible, Incompatible
		if r.Kind == AtMost {
			wantUp, wantDown = Incompatible, Compatible
		}
		if up != wantUp || down != wantDown {
			t.Errorf("%s: %s -> %s is %s, back %s", r.Kind, a, b, up, down)
		}

		// The same through Check, with the inventories changing places.
		p := newPair()
		p.rule(Rule{Attribute: "a", Of: OfType, Kind: r.Kind, Form: r.Form})
		p.fromType().Attributes.Set("a", a)
		p.toType().Attributes.Set("a", b)
		q := &pair{from: p.to, to: p.from, catalog: p.catalog}
		cs, err := NewCatalogs(nil, []*Catalog{p.catalog})
		if err != nil {
			t.Fatal(err)
		}
		e := NewEngine(cs, nil)
		if there, back := e.Check(e.Source(p.from, p.device()), e.Offers(p.to)[0]), e.Check(e.Source(q.from, q.device()), e.Offers(q.to)[0]); there.Outcome != wantUp || back.Outcome != wantDown {
			t.Errorf("%s: there %s, back %s", r.Kind, there.Outcome, back.Outcome)
		}
	})
}
