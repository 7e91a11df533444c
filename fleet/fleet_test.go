// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kindred/compat"
	"kindred/inventory"
)

const testCatalog = `schema: kindred.catalog/v1
namespaces: [ns]
migration:
  - {can: "yes", source: test}
build:
  modules: [m]
rules:
  - {attribute: a, rule: at-least, source: test}
equivalent:
  - {types: [{namespace: ns, name: t}, {namespace: ns, name: v}], source: test}
`

func newEngine(t interface{ Fatal(args ...any) }, catalogs ...*compat.Catalog) *compat.Engine {
	c, err := compat.ParseCatalog("test", []byte(testCatalog))
	if err != nil {
		t.Fatal(err)
	}
	cs, err := compat.NewCatalogs(catalogs, []*compat.Catalog{c})
	if err != nil {
		t.Fatal(err)
	}
	return compat.NewEngine(cs, nil)
}

func newType(name, a string, available int) inventory.Type {
	t := inventory.Type{
		TypeName: inventory.TypeName{Namespace: "ns", Name: name}, DeviceAPI: inventory.Of("vfio-pci"), Label: inventory.Of(name),
		Creatable: inventory.Yes, ListedBy: inventory.ListedByKernel, Attributes: inventory.Attributes{Complete: true},
	}
	if available >= 0 {
		t.Available = &available
	}
	t.Attributes.Set("a", a)
	return t
}

// newHost has one parent p with the types, and a device of type t on it.
func newHost(name string, types ...inventory.Type) *inventory.Inventory {
	return &inventory.Inventory{
		Schema: inventory.Schema, Origin: inventory.FromTree, Taken: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC),
		Host:    inventory.Host{Name: name, QEMU: inventory.Of("9.0"), Libvirt: inventory.Of("10.0")},
		Modules: []inventory.Module{{Name: "m", BuildID: inventory.Of("b1")}},
		Parents: []inventory.Parent{{Name: "p", Kind: inventory.MdevParent, Namespace: "ns", Types: types}},
		Devices: []inventory.Device{{
			ID: "83b8f4f2-509f-382f-3c1e-e6bfe0fa10" + name[:2], Kind: inventory.Mdev, Parent: "p", Type: inventory.TypeName{Namespace: "ns", Name: "t"},
			InUse: inventory.Yes, Attributes: inventory.Attributes{Complete: true},
		}},
	}
}

// ask asks where the device of host 00 could go.
func ask(t testing.TB, opts Options, inventories ...*inventory.Inventory) *Targets {
	t.Helper()
	f, err := New(newEngine(t), inventories)
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Source("83b8f4f2-509f-382f-3c1e-e6bfe0fa1000")
	if err != nil {
		t.Fatal(err)
	}
	return f.Targets(s, opts)
}

// TestGroups changes one thing of a ready target.
func TestGroups(t *testing.T) {
	now := time.Date(2026, 1, 2, 4, 0, 0, 0, time.UTC)
	back := func(o compat.Outcome) *compat.Outcome { return &o }
	for _, c := range []struct {
		name   string
		change func(from, to *inventory.Inventory)
		want   Group
		back   *compat.Outcome
	}{
		{"nothing", func(_, to *inventory.Inventory) {}, Ready, back(compat.Compatible)},
		{"one way", func(_, to *inventory.Inventory) { to.Parents[0].Types[0].Attributes.Set("a", "9") }, Ready, back(compat.Incompatible)},
		{"no room", func(_, to *inventory.Inventory) { *to.Parents[0].Types[0].Available = 0 }, Full, back(compat.Compatible)},
		{"not creatable", func(_, to *inventory.Inventory) { to.Parents[0].Types[0].Creatable = inventory.No }, Full, back(compat.Compatible)},
		{"room not known", func(_, to *inventory.Inventory) {
			to.Parents[0].Types[0].Available, to.Parents[0].Types[0].Creatable = nil, inventory.Unknown
		}, Unsettled, back(compat.Compatible)},
		{"room for one, and for how many more not known", func(_, to *inventory.Inventory) { to.Parents[0].Types[0].Available = nil }, Ready, back(compat.Compatible)},
		{"too low", func(_, to *inventory.Inventory) { to.Parents[0].Types[0].Attributes.Set("a", "0") }, NotAllowed, nil},
		{"not observed", func(_, to *inventory.Inventory) { to.Parents[0].Types[0].Attributes.Forget("a") }, Unsettled, back(compat.Unknown)},
		{"another build", func(_, to *inventory.Inventory) { to.Modules[0].BuildID = inventory.Of("b2") }, Unsettled, back(compat.Unknown)},
		{"another type", func(_, to *inventory.Inventory) { to.Parents[0].Types[0].Name = "u" }, NotAllowed, nil},
		{"an equivalent type", func(_, to *inventory.Inventory) { to.Parents[0].Types[0].Name = "v" }, Unsettled, back(compat.Unknown)},
		{"no types", func(_, to *inventory.Inventory) { to.Parents[0].Types = nil }, NotAllowed, nil},
		{"no parents", func(_, to *inventory.Inventory) { to.Parents, to.Devices = nil, nil }, NotAllowed, nil},
		{"old QEMU", func(_, to *inventory.Inventory) { to.Host.QEMU = inventory.Of("8.0.5") }, NotAllowed, back(compat.Compatible)},
		{"oldest QEMU", func(from, to *inventory.Inventory) {
			from.Host.QEMU, to.Host.QEMU = inventory.Of("8.1.0"), inventory.Of("8.1")
		}, Ready, back(compat.Compatible)},
		{"QEMU older than the source's", func(_, to *inventory.Inventory) { to.Host.QEMU = inventory.Of("8.2") }, Unsettled, back(compat.Compatible)},
		{"no QEMU", func(_, to *inventory.Inventory) { to.Host.QEMU = inventory.None() }, NotAllowed, back(compat.Compatible)},
		{"QEMU not looked for", func(_, to *inventory.Inventory) { to.Host.QEMU = inventory.Value{} }, Unsettled, back(compat.Compatible)},
		{"old libvirt", func(_, to *inventory.Inventory) { to.Host.Libvirt = inventory.Of("8.5") }, NotAllowed, back(compat.Compatible)},
		{"no VM manager anywhere", func(from, to *inventory.Inventory) {
			for _, inv := range []*inventory.Inventory{from, to} {
				inv.Host.QEMU, inv.Host.Libvirt = inventory.None(), inventory.None()
			}
		}, Ready, back(compat.Compatible)},
		{"an old inventory", func(_, to *inventory.Inventory) { to.Taken = to.Taken.Add(-time.Hour) }, NotReporting, back(compat.Compatible)},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, to := newHost("00", newType("t", "5", 3)), newHost("01", newType("t", "5", 3))
			c.change(from, to)
			answer := ask(t, Options{Now: now, MaxAge: 90 * time.Minute}, from, to)
			if len(answer.Hosts) != 1 || answer.Hosts[0].Host != "01" {
				t.Fatalf("%+v", answer.Hosts)
			}
			got := answer.Hosts[0]
			if got.Group != c.want || !cmp.Equal(got.Return, c.back) || answer.Counts[c.want] != 1 {
				t.Errorf("%s, want %s; way back %v, want %v; counts %v", got.Group, c.want, got.Return, c.back, answer.Counts)
			}
			if got.Verdict == nil || len(got.Verdict.Findings) == 0 {
				t.Error("no reason is given")
			}
			if len(answer.Counts) != len(Groups) {
				t.Errorf("counts of %v", answer.Counts)
			}
		})
	}
}

// TestBestOffer: of several offers the one of the best group is chosen, then
// the one with most room, then by name; the rest are told too.
func TestBestOffer(t *testing.T) {
	to := newHost("01", newType("t", "5", 0), newType("u", "5", 9))
	for i, p := range []struct {
		a         string
		available int
	}{{"5", 2}, {"4", 9}, {"6", 4}, {"7", 4}} {
		parent := inventory.Parent{Name: fmt.Sprint("q", i), Kind: inventory.MdevParent, Namespace: "ns", Types: []inventory.Type{newType("t", p.a, p.available)}}
		to.Parents = append(to.Parents, parent)
	}
	answer := ask(t, Options{Others: true}, newHost("00", newType("t", "5", 1)), to)
	got := answer.Hosts[0]
	if got.Parent != "q2" || got.Group != Ready || len(got.Others) != 5 {
		t.Errorf("%s on %s, %d others", got.Group, got.Parent, len(got.Others))
	}
	var order []string
	for _, o := range got.Others {
		order = append(order, o.Parent+" "+o.Type.Name)
	}
	if diff := cmp.Diff([]string{"q3 t", "q0 t", "p t", "q1 t", "p u"}, order); diff != "" {
		t.Errorf("others (-want +got):\n%s", diff)
	}
	if last := got.Others[4]; last.Findings[0].Code != compat.TypeDifferent {
		t.Errorf("%+v", last)
	}
}

func TestSource(t *testing.T) {
	one, two := newHost("00", newType("t", "5", 1)), newHost("01", newType("t", "5", 1))
	twin := newHost("02", newType("t", "5", 1))
	twin.Devices[0].ID = one.Devices[0].ID
	f, err := New(newEngine(t), []*inventory.Inventory{two, twin, one})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ref, host string
		code      ErrorCode
	}{
		{"83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", "01", ""},
		{"83B8F4F2-509F-382F-3C1E-E6BFE0FA1001", "01", ""},
		{"01/83b8", "01", ""},
		{"02/83b8f4f2-509f-382f-3c1e-e6bfe0fa1000", "02", ""},
		{"83b8f4f2-509f-382f-3c1e-e6bfe0fa1000", "", Ambiguous},
		{"83b8", "", Ambiguous},
		{"01/83b", "", NotFound},
		{"nobody/83b8", "", NotFound},
		{"ffff", "", NotFound},
		{"", "", NotFound},
	} {
		s, err := f.Source(c.ref)
		if c.code == "" {
			if err != nil || s.Host() != c.host {
				t.Errorf("%q: %v", c.ref, err)
			}
			continue
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != c.code || e.Ref != c.ref || e.Problem == "" {
			t.Errorf("%q: %v, want %s", c.ref, err, c.code)
		}
	}
	_, err = New(newEngine(t), []*inventory.Inventory{one, two, one})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != DuplicateHost || e.Ref != "00" {
		t.Errorf("two inventories of one host: %v", err)
	}
}

func TestMatrix(t *testing.T) {
	for seed := range uint64(20) {
		f := newSmall(seed).fleet()
		cells := 0
		for _, typ := range f.Matrix().Types {
			cells += len(typ.Cells)
		}
		if n := f.Cells(); n != cells {
			t.Errorf("fleet %d: %d cells are foretold, there are %d", seed, n, cells)
		}
	}
	f, err := New(newEngine(t), []*inventory.Inventory{
		newHost("02", newType("u", "1", 1)), newHost("00", newType("t", "5", 1)), newHost("01", newType("t", "6", 1)),
	})
	if err != nil {
		t.Fatal(err)
	}
	m := f.Matrix()
	var got []string
	for _, typ := range m.Types {
		for _, c := range typ.Cells {
			got = append(got, fmt.Sprintf("%s %s>%s %s %s", typ.Type.Full(), c.From, c.To, c.Outcome, c.Code))
		}
	}
	want := []string{
		"ns-t 00>01 compatible type.same", "ns-t 00>02 incompatible type.not-offered",
		"ns-t 01>00 incompatible attribute.too-low", "ns-t 01>02 incompatible type.not-offered",
		"ns-u 02>00 incompatible type.not-offered", "ns-u 02>01 incompatible type.not-offered",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"00", "01", "02"}, m.Hosts); diff != "" {
		t.Error(diff)
	}
}

func TestCheck(t *testing.T) {
	one, two, three := newHost("00", newType("t", "5", 1)), newHost("01", newType("u", "5", 1), newType("t", "4", 1)), newHost("02", newType("u", "5", 1))
	f, err := New(newEngine(t), []*inventory.Inventory{three, two, one})
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Source("00/83b8f4f2")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range f.Check(s).Verdicts {
		got = append(got, fmt.Sprintf("%s %s %s", v.Host, v.Outcome, v.Worst().Code))
	}
	if diff := cmp.Diff([]string{"01 incompatible attribute.too-low", "02 incompatible type.not-offered"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCodes(t *testing.T) {
	if !slices.IsSorted(Codes()) || len(Codes()) == 0 {
		t.Errorf("%v", Codes())
	}
	for _, code := range Codes() {
		if code.Meaning() == "" {
			t.Errorf("%s has no meaning", code)
		}
		if slices.ContainsFunc(compat.Codes(), func(c compat.Code) bool { return string(c) == string(code) }) {
			t.Errorf("%s is a code of compat too", code)
		}
	}
}

// genFleet draws hosts whose types, versions and rooms differ a little.
func genFleet(t *rapid.T) []*inventory.Inventory {
	value := func(texts ...string) inventory.Value {
		switch i := rapid.IntRange(0, len(texts)+1).Draw(t, "value"); i {
		case len(texts):
			return inventory.None()
		case len(texts) + 1:
			return inventory.Value{}
		default:
			return inventory.Of(texts[i])
		}
	}
	var list []*inventory.Inventory
	for i := range rapid.IntRange(2, 4).Draw(t, "hosts") {
		inv := newHost(fmt.Sprintf("%02d", i))
		inv.Host.QEMU, inv.Host.Libvirt = value("9.0", "9.0", "9.1", "8.0"), value("10.0", "10.0", "8.5")
		inv.Modules[0].BuildID = value("b1", "b1", "b1", "b1", "b2")
		inv.Parents = nil
		for j := range rapid.IntRange(1, 3).Draw(t, "parents") {
			p := inventory.Parent{Name: strings.Repeat("p", j+1), Kind: inventory.MdevParent, Namespace: "ns"}
			for _, name := range []string{"t", "u", "v"} {
				if rapid.IntRange(0, 2).Draw(t, "offered") > 0 {
					typ := newType(name, rapid.SampledFrom([]string{"4", "5", "5", "6", "x"}).Draw(t, "a"), rapid.IntRange(-1, 3).Draw(t, "available"))
					typ.Creatable = rapid.SampledFrom([]inventory.Answer{inventory.Yes, inventory.Yes, inventory.No, inventory.Unknown}).Draw(t, "creatable")
					if rapid.IntRange(0, 5).Draw(t, "forget") == 0 {
						typ.Attributes.Forget("a")
					}
					p.Types = append(p.Types, typ)
				}
			}
			inv.Parents = append(inv.Parents, p)
		}
		list = append(list, inv)
	}
	return list
}

func targets(t *rapid.T, list []*inventory.Inventory) map[string]*Targets {
	f, err := New(newEngine(t), list)
	if err != nil {
		t.Fatal(err)
	}
	answers := make(map[string]*Targets)
	for _, inv := range list {
		s, err := f.Source(inv.Host.Name + "/" + inv.Devices[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		answers[inv.Host.Name] = f.Targets(s, Options{Others: true})
	}
	return answers
}

var values = cmp.AllowUnexported(inventory.Value{})

// copied is the inventories with lists of their own, in another order.
func copied(t *rapid.T, list []*inventory.Inventory) []*inventory.Inventory {
	var other []*inventory.Inventory
	for _, inv := range list {
		c := *inv
		if len(c.Parents) > 1 {
			c.Parents = rapid.Permutation(c.Parents).Draw(t, "parents")
		}
		c.Parents = slices.Clone(c.Parents)
		for i := range c.Parents {
			if types := c.Parents[i].Types; len(types) > 1 {
				c.Parents[i].Types = rapid.Permutation(types).Draw(t, "types")
			}
		}
		other = append(other, &c)
	}
	return rapid.Permutation(other).Draw(t, "hosts")
}

func TestTargetsOrderIsIrrelevant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := genFleet(t)
		if diff := cmp.Diff(targets(t, list), targets(t, copied(t, list)), values); diff != "" {
			t.Error(diff)
		}
	})
}

// TestTargetsWithout: with a fact of the target's type gone, a host that is
// not allowed does not become a target, and a target does not become one that
// is not allowed.
func TestTargetsWithout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := genFleet(t)
		before := targets(t, list)
		host := list[rapid.IntRange(0, len(list)-1).Draw(t, "host")]
		switch p := &host.Parents[rapid.IntRange(0, len(host.Parents)-1).Draw(t, "parent")]; {
		case rapid.Bool().Draw(t, "module") || len(p.Types) == 0:
			host.Modules[0].BuildID = inventory.Value{}
		default:
			typ := &p.Types[rapid.IntRange(0, len(p.Types)-1).Draw(t, "type")]
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				typ.Attributes.Forget("a")
			case 1:
				typ.Attributes.Complete = false
			case 2:
				typ.DeviceAPI = inventory.Value{}
			case 3:
				typ.Available, typ.Creatable = nil, inventory.Unknown
			}
		}
		good := []Group{Ready, Full}
		for name, after := range targets(t, list) {
			was := make(map[string]Group)
			for _, h := range before[name].Hosts {
				was[h.Host] = h.Group
			}
			for _, h := range after.Hosts {
				if was[h.Host] == NotAllowed && slices.Contains(good, h.Group) || h.Group == NotAllowed && slices.Contains(good, was[h.Host]) {
					t.Errorf("from %s, %s was %s and is %s", name, h.Host, was[h.Host], h.Group)
				}
			}
		}
	})
}

// TestTargetsHold: what an answer says of a host fits together.
func TestTargetsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for name, answer := range targets(t, genFleet(t)) {
			total, last := 0, 0
			for _, n := range answer.Counts {
				total += n
			}
			if total != len(answer.Hosts) {
				t.Errorf("from %s: counts %v of %d hosts", name, answer.Counts, len(answer.Hosts))
			}
			for _, h := range answer.Hosts {
				at := slices.Index(Groups, h.Group)
				if at < last || h.Host == name {
					t.Errorf("from %s: %s is out of place", name, h.Host)
				}
				last = at
				switch {
				case h.Group == Ready || h.Group == Full:
					if h.Verdict.Outcome != compat.Compatible || h.Return == nil {
						t.Errorf("%s, and %s", h.Group, h.Verdict.Outcome)
					}
					if h.Group == Ready && (h.Room == nil || h.Room.Code != RoomFree || h.Room.Count != nil && *h.Room.Count == 0) {
						t.Errorf("ready with room %+v", h.Room)
					}
				case h.Group == Unsettled && h.Verdict.Outcome == compat.Incompatible:
					t.Error("unknown, and incompatible")
				}
				for _, c := range h.Ready {
					if c.Met == inventory.No && h.Group != NotAllowed {
						t.Errorf("%s is not met, and the host is %s", c.Code, h.Group)
					}
				}
			}
		}
	})
}
