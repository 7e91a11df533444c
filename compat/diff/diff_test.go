// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"slices"
	"strings"
	"testing"

	"kindred/compat"
	"kindred/inventory"
)

const head = "schema: kindred.catalog/v1\nnamespaces: [acme, other]\n"

const site = `schema: kindred.catalog/v1
namespaces: [acme]
migration: [{can: "yes", source: s}]
build: {modules: [m]}
rules:
  - {attribute: size, rule: equal, absent: off, source: s}
  - {attribute: features, rule: superset, absent: off, source: s}
  - {attribute: software_version, rule: semver, absent: off, source: s}
`

func parse(t *testing.T, text string) *compat.Catalog {
	t.Helper()
	c, err := compat.ParseCatalog("site.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rule is a catalog with one rule.
func rule(text string) string { return head + "rules: [{attribute: a, source: s, " + text + "}]\n" }

func equivalent(names string) string {
	return head + "equivalent: [{types: [" + names + "], source: s}]\n"
}

const (
	nameQ = "{namespace: acme, name: q}"
	nameR = "{namespace: acme, name: r}"
	nameS = "{namespace: acme, name: s}"
)

var catalogCases = []struct {
	code                   Code
	before, after, nearOld string // nearOld and near make the near miss; empty: before
	near                   string
}{
	{NamespaceRemoved, head, "schema: kindred.catalog/v1\nnamespaces: [acme]\n", "", "schema: kindred.catalog/v1\nnamespaces: [other, acme, third]\n"},
	{RuleAdded, head, rule("rule: equal"), rule("rule: superset"), rule("rule: superset")},
	{RuleRemoved, rule("rule: equal"), head, "", rule("rule: superset")},
	{RuleStricter, rule("rule: superset"), rule("rule: equal"), "", rule("rule: superset, as: list")},
	{RuleStricter, rule("rule: equal, otherwise: unknown"), rule("rule: equal"), "", rule("rule: equal, otherwise: unknown, absent: unknown")},
	{RuleStricter, rule("rule: equal, otherwise: unknown"), rule(`rule: equal, otherwise: unknown, refused: [{source: "x 10*", target: "x 9"}]`), "", rule("rule: equal, otherwise: unknown")},
	{RuleStricter, rule("rule: at-least, against: b"), rule("rule: at-least, against: c"), "", rule("rule: at-least, against: b, as: number")},
	{RuleLooser, rule("rule: equal, as: number"), rule("rule: at-least"), "", rule("rule: equal, as: number, absent: unknown")},
	{MigrationWithdrawn, head + "migration: [{can: \"yes\", source: s}]\n", head + "migration: [{can: unknown, source: s}]\n", "", head + "migration: [{can: \"yes\", source: another}]\n"},
	{MigrationWithdrawn, head + "migration: [{can: \"yes\", source: s}]\n", head + "migration: [{can: \"no\", types: x, source: s}, {can: \"yes\", source: s}]\n", "", head + "migration: [{can: unknown, types: x, source: s}, {can: \"yes\", source: s}]\n"},
	{EquivalenceRemoved, equivalent(nameQ + ", " + nameR), head, "", equivalent(nameR + ", " + nameQ + ", " + nameS)},
	{TypeBecameCompatible, equivalent(nameQ + ", " + nameR), equivalent(nameQ + ", " + nameR + ", " + nameS), "", equivalent(nameR + ", " + nameQ)},
	{EpochRemoved, head + "build: {modules: [m]}\nepochs: [{name: e, builds: [{\"module:m\": a}, {\"module:m\": b}], source: s}]\n", head + "build: {modules: [m]}\nepochs: [{name: e, builds: [{\"module:m\": a}], source: s}]\n", "",
		head + "build: {modules: [m]}\nepochs: [{name: e, builds: [{\"module:m\": b}, {\"module:m\": c}, {\"module:m\": a}], source: s}]\n"},
	{BuildBanned, head + "build: {modules: [m]}\n", head + "build: {modules: [m]}\nknown-bad: [{builds: [{\"module:m\": b}], reason: r, source: s}]\n",
		head + "build: {modules: [m]}\nknown-bad: [{builds: [{\"module:m\": b}], reason: r, source: s}]\n", head + "build: {modules: [m]}\nknown-bad: [{builds: [{\"module:m\": b}], reason: said better, source: s}]\n"},
	{BuildRedefined, head + "build: {modules: [m]}\n", head + "build: {modules: [m, n]}\n", head + "build: {modules: [m, n]}\n", head + "build: {modules: [n, m]}\n"},
	{ProofRaised, head, head + "proof: {lowest: observed}\n", "", head + "proof: {lowest: working-state}\n"},
}

// kind is a type with attributes given as name, value, …
func kind(name string, values ...string) inventory.Type {
	t := inventory.Type{
		TypeName: inventory.TypeName{Namespace: "acme", Name: name}, Label: inventory.None(), DeviceAPI: inventory.Of("vfio-pci"), Description: inventory.None(),
		Creatable: inventory.Yes, ListedBy: inventory.ListedByKernel, Attributes: inventory.Attributes{Complete: true},
	}
	for i := 0; i < len(values); i += 2 {
		t.Attributes.Set(values[i], values[i+1])
	}
	return t
}

// host is a host with one parent and a device of its first type.
func host(name, build string, types ...inventory.Type) *inventory.Inventory {
	inv := &inventory.Inventory{
		Schema: inventory.Schema, Origin: inventory.FromSimulator, Host: inventory.Host{Name: name},
		Modules: []inventory.Module{{Name: "m", BuildID: inventory.Of(build), Parameters: inventory.Attributes{Complete: true}}},
		Parents: []inventory.Parent{{Name: "p", Kind: inventory.MdevParent, Namespace: "acme", Modules: []string{"m"}, Firmware: inventory.Attributes{Complete: true}, Types: types}},
	}
	if len(types) > 0 {
		inv.Devices = []inventory.Device{{ID: "d-" + name, Kind: inventory.Mdev, Parent: "p", Type: types[0].TypeName, InUse: inventory.Yes, Attributes: inventory.Attributes{Complete: true}}}
	}
	return inv
}

func noParent(name string) *inventory.Inventory {
	inv := host(name, "1")
	inv.Parents = nil
	return inv
}

func fleet(list ...*inventory.Inventory) []*inventory.Inventory { return list }

var hostCases = []struct {
	code          Code
	before, after []*inventory.Inventory
	near          []*inventory.Inventory // what comes after in the near miss
}{
	{TypeRemoved, fleet(host("a", "1", kind("q"), kind("r"))), fleet(host("a", "1", kind("q"))), fleet(host("a", "1", kind("r"), kind("q")))},
	{TypeAdded, fleet(host("a", "1", kind("q"))), fleet(host("a", "1", kind("q"), kind("r"))), fleet(host("a", "1", kind("q")))},
	{ParentRemoved, fleet(host("a", "1", kind("q"))), fleet(noParent("a")), fleet(host("a", "1"))},
	{TypeChanged, fleet(host("a", "1", kind("q", "size", "8"))), fleet(host("a", "1", kind("q", "size", "9"))), fleet(host("a", "1", kind("q", "size", "8"), kind("q9", "size", "9")))},
	{TypeChanged, fleet(host("a", "1", kind("q", "software_version", "1.2"))), fleet(host("a", "1", kind("q", "software_version", "2.0"))), fleet(host("a", "1", kind("q", "software_version", "1.3.1")))},
	{FeatureRemoved, fleet(host("a", "1", kind("q", "features", "x y", "software_version", "1.2"))), fleet(host("a", "1", kind("q", "features", "x", "software_version", "1.3"))),
		fleet(host("a", "1", kind("q", "features", "x", "software_version", "2.0")))},
	{TypeBecameCompatible, fleet(host("a", "1", kind("q", "software_version", "1.2")), host("b", "1", kind("q", "software_version", "1.1"))),
		fleet(host("a", "1", kind("q", "software_version", "1.2")), host("b", "1", kind("q", "software_version", "1.2"))),
		fleet(host("a", "1", kind("q", "software_version", "1.2")), host("b", "1", kind("q", "software_version", "1.1.9")))},
	{TypeBecameCompatible, fleet(host("a", "1", kind("q", "size", "8")), host("b", "1", kind("r", "size", "9"))),
		fleet(host("a", "1", kind("q", "size", "8")), host("b", "1", kind("r", "size", "8"))),
		fleet(host("a", "1", kind("q", "size", "8")), host("b", "1", kind("r", "size", "10")))},
	{DeviceHurt, fleet(host("a", "1", kind("q")), host("b", "1", kind("q"))), fleet(host("a", "1", kind("q")), host("b", "1", kind("r"))),
		fleet(host("a", "1", kind("q")), host("b", "1", kind("r"), kind("q")))},
	{DeviceUnproven, fleet(host("a", "1", kind("q")), host("b", "1", kind("q"))), fleet(host("a", "1", kind("q")), host("b", "2", kind("q"))),
		fleet(host("a", "1", kind("q")), host("b", "1", kind("q")))},
}

// TestCodes: every code has a change that triggers it and a near miss.
func TestCodes(t *testing.T) {
	seen := make(map[Code]bool)
	check := func(t *testing.T, code Code, changes, near []Change) {
		seen[code] = true
		has := func(c Change) bool { return c.Code == code }
		if !slices.ContainsFunc(changes, has) {
			t.Errorf("%s: not found; only %+v", code, changes)
		}
		if slices.ContainsFunc(near, has) {
			t.Errorf("%s: found in the near miss: %+v", code, near)
		}
		for _, c := range changes {
			if c.About == "" || c.Reason == "" || c.Effect != c.Code.Effect() || c.Better == "" && c.Effect == Breaks {
				t.Errorf("incomplete: %+v", c)
			}
		}
	}
	for _, c := range catalogCases {
		old := c.before
		if c.nearOld != "" {
			old = c.nearOld
		}
		check(t, c.code, Catalogs(parse(t, c.before), parse(t, c.after)), Catalogs(parse(t, old), parse(t, c.near)))
		if same := Catalogs(parse(t, c.before), parse(t, c.before)); len(same) > 0 {
			t.Errorf("%s: a catalog differs from itself: %+v", c.code, same)
		}
	}
	known, err := compat.NewCatalogs(nil, []*compat.Catalog{parse(t, site)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range hostCases {
		check(t, c.code, Inventories(known, c.before, c.after), Inventories(known, c.before, c.near))
		if same := Inventories(known, c.before, c.before); len(same) > 0 {
			t.Errorf("%s: hosts differ from themselves: %+v", c.code, same)
		}
	}
	for _, code := range Codes() {
		if !seen[code] || code.Meaning() == "" || code.Effect() == "" {
			t.Errorf("%s has no case, meaning or effect", code)
		}
	}
}

// TestAnswers: devices that another catalog answers otherwise about.
func TestAnswers(t *testing.T) {
	known := func(text string) *compat.Catalogs {
		cs, err := compat.NewCatalogs(nil, []*compat.Catalog{parse(t, text)})
		if err != nil {
			t.Fatal(err)
		}
		return cs
	}
	hosts := fleet(host("a", "1", kind("q", "features", "x")), host("b", "1", kind("q", "features", "x y")))
	stricter := known(strings.Replace(site, "rule: superset", "rule: equal", 1))
	if changes := Answers(known(site), stricter, hosts); len(changes) != 1 || changes[0].Code != DeviceHurt || changes[0].About != "d-a" {
		t.Errorf("%+v", changes)
	}
	if changes := Answers(stricter, known(site), hosts); len(changes) != 0 {
		t.Errorf("%+v", changes)
	}
}

func TestWorst(t *testing.T) {
	if w := Worst(nil); w != Note {
		t.Error(w)
	}
	if w := Worst([]Change{{Effect: Note}, {Effect: Advice}, {Effect: Unknown}}); w != Unknown {
		t.Error(w)
	}
}

// TestBuiltIn: no built-in catalog differs from itself.
func TestBuiltIn(t *testing.T) {
	for _, c := range compat.BuiltIn() {
		if changes := Catalogs(c, c); len(changes) > 0 {
			t.Errorf("%s: %+v", c.Name, changes)
		}
	}
}
