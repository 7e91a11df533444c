// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"slices"
	"strings"
	"testing"

	"kindred/compat"
	"kindred/inventory"
)

const head = "schema: kindred.catalog/v1\nnamespaces: [acme, acme_v4, acme_v5]\n"

func parse(t *testing.T, text string) *compat.Catalog {
	t.Helper()
	c, err := compat.ParseCatalog("site.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// kind makes a type with attributes given as name, value, …
func kind(namespace, name string, values ...string) inventory.Type {
	t := inventory.Type{
		TypeName:  inventory.TypeName{Namespace: namespace, Name: name},
		DeviceAPI: inventory.Of("vfio-pci"), Description: inventory.None(), Label: inventory.None(),
		Creatable: inventory.Yes, ListedBy: inventory.ListedByKernel, Attributes: inventory.Attributes{Complete: true},
	}
	for i := 0; i < len(values); i += 2 {
		t.Attributes.Set(values[i], values[i+1])
	}
	return t
}

// host makes one parent for each type.
func host(name string, types ...inventory.Type) *inventory.Inventory {
	inv := &inventory.Inventory{Schema: inventory.Schema, Origin: inventory.FromSimulator, Host: inventory.Host{Name: name}}
	for i, t := range types {
		inv.Parents = append(inv.Parents, inventory.Parent{Name: "p" + string(rune('0'+i)), Kind: inventory.MdevParent, Namespace: t.Namespace, Types: []inventory.Type{t}})
	}
	return inv
}

func labelled(t inventory.Type, label string) inventory.Type { t.Label = inventory.Of(label); return t }
func without(t inventory.Type) inventory.Type                { t.Attributes = inventory.Attributes{}; return t }

const ruled = head + "rules:\n  - {attribute: size, rule: equal, source: s}\n  - {attribute: features, rule: superset, source: s}\n  - {attribute: software_version, rule: semver, source: s}\n"

const twoNames = head + "equivalent:\n  - {types: [{namespace: acme, name: big}, {namespace: acme, name: large}], source: s}\n"

// cases have, for each code, input that triggers it and a near miss that does
// not. A catalog is text, everything else an inventory.
var cases = []struct {
	code       Code
	what       string
	hit, miss  string // catalogs
	hits, near []*inventory.Inventory
	proofs     []compat.Proof // for the near miss
}{
	{code: NameGeneration, what: "declared",
		hit:  head + "equivalent:\n  - {types: [{namespace: acme, name: q_v4}, {namespace: acme, name: q_v5}], source: s}\n",
		miss: twoNames},
	{code: NameGeneration, what: "equal attributes, or not", hit: ruled, miss: ruled,
		hits: []*inventory.Inventory{host("a", kind("acme", "V4_8", "size", "8")), host("b", kind("acme", "V5_8", "size", "8"))},
		near: []*inventory.Inventory{host("a", kind("acme", "V4_8", "size", "8")), host("b", kind("acme", "V5_8", "size", "9"))}},
	{code: NameGeneration, what: "nothing known is not equal", hit: ruled, miss: ruled,
		hits: []*inventory.Inventory{host("a", kind("acme", "gen8-x", "size", "8"), kind("acme", "gen9-x", "size", "8"))},
		near: []*inventory.Inventory{host("a", without(kind("acme", "gen8-x")), without(kind("acme", "gen9-x")))}},
	{code: NamespaceSplit, what: "same name in two generations", hit: ruled, miss: ruled,
		hits: []*inventory.Inventory{host("a", kind("acme_v4", "q", "size", "8"), kind("acme_v5", "q", "size", "8"))},
		near: []*inventory.Inventory{host("a", kind("acme_v4", "q", "size", "8"), kind("acme_v5", "q", "size", "4"))}},
	{code: NamespaceSplit, what: "declared",
		hit:  head + "equivalent:\n  - {types: [{namespace: acme_v4, name: q}, {namespace: acme_v5, name: q}], source: s}\n",
		miss: head + "equivalent:\n  - {types: [{namespace: acme_v4, name: q}, {namespace: acme, name: r}], source: s}\n"},
	{code: NamePrefix, what: "a word of the field",
		hit:  "schema: kindred.catalog/v1\nnamespaces: [vgpu]\n",
		miss: "schema: kindred.catalog/v1\nnamespaces: [acme_vgpu]\n"},
	{code: NamePrefix, what: "a parent",
		hits: []*inventory.Inventory{host("a", kind("pci", "q"))}, near: []*inventory.Inventory{host("a", kind("acme_pci", "q"))}},
	{code: NameMeaningless, what: "a number with a label",
		hits: []*inventory.Inventory{host("a", labelled(kind("acme", "type-1"), "four queues"))},
		near: []*inventory.Inventory{host("a", labelled(kind("acme", "type-1"), "type-1"))}},
	{code: NameMeaningless, what: "where the label is the identity", hit: head, miss: head + "identity: label\n",
		hits: []*inventory.Inventory{host("a", labelled(kind("acme", "1148"), "L40S-2Q"))},
		near: []*inventory.Inventory{host("a", labelled(kind("acme", "1148"), "L40S-2Q"))}},
	{code: NamespaceCollision, what: "a name that splits two ways",
		hits: []*inventory.Inventory{host("a", kind("qat", "v4-type1"), kind("qat-v4", "type1"))},
		near: []*inventory.Inventory{host("a", kind("qat", "v4-type1"), kind("qat_v4", "type1"))}},
	{code: NamespaceCollision, what: "a catalog's namespaces",
		hit:  "schema: kindred.catalog/v1\nnamespaces: [qat, qat-v4]\n",
		miss: "schema: kindred.catalog/v1\nnamespaces: [qat, qat_v4]\n"},
	{code: TypeVaries, what: "another value, or a rule that allows one", hit: ruled, miss: ruled,
		hits: []*inventory.Inventory{host("a", kind("acme", "q", "size", "8")), host("b", kind("acme", "q", "size", "9"))},
		near: []*inventory.Inventory{host("a", kind("acme", "q", "features", "x")), host("b", kind("acme", "q", "features", "x,y"))}},
	{code: TypeDuplicate, what: "two words for one size", hit: ruled, miss: ruled,
		hits: []*inventory.Inventory{host("a", kind("acme", "big", "size", "8"), kind("acme", "large", "size", "8"))},
		near: []*inventory.Inventory{host("a", kind("acme", "big", "size", "8"), kind("acme", "large", "size", "9"))}},
	{code: TypeDuplicate, what: "declared to be one", hit: ruled, miss: ruled + "equivalent:\n  - {types: [{namespace: acme, name: big}, {namespace: acme, name: large}], source: s}\n",
		hits: []*inventory.Inventory{host("a", kind("acme", "big", "size", "8"), kind("acme", "large", "size", "8"))},
		near: []*inventory.Inventory{host("a", kind("acme", "big", "size", "8"), kind("acme", "large", "size", "8"))}},
	{code: VersionUnparsable, what: "an opaque string", hit: ruled, miss: ruled,
		hits: []*inventory.Inventory{host("a", kind("acme", "q", "software_version", "00028086-193b"))},
		near: []*inventory.Inventory{host("a", kind("acme", "q", "software_version", "1.0.0"))}},
	{code: VersionUnparsable, what: "in the examples",
		hit:  ruled + "examples:\n  base: {attributes: {software_version: r7}}\n",
		miss: ruled + "examples:\n  base: {attributes: {software_version: 7.0}}\n"},
	{code: RuleMissing, what: "an attribute of a type", hit: ruled, miss: ruled,
		hits: []*inventory.Inventory{host("a", kind("acme", "q", "heads", "4"))},
		near: []*inventory.Inventory{host("a", kind("acme", "q", "size", "4"))}},
	{code: RuleMissing, what: "what shapes the stream",
		hit:  head + "proof: {shaping: [queues]}\n",
		miss: head + "proof: {shaping: [queues]}\nrules: [{attribute: queues, rule: equal, source: s}]\n"},
	{code: EquivalenceUnproven, what: "a declaration", hit: twoNames, miss: twoNames,
		proofs: []compat.Proof{{SourceType: inventory.TypeName{Namespace: "acme", Name: "large"}, TargetType: inventory.TypeName{Namespace: "acme", Name: "big"}, Result: compat.Accepted, Grade: compat.WorkingState}}},
	{code: RuleNever, what: "a default that is no number",
		hit:  head + "rules: [{attribute: a, rule: at-least, absent: {value: none}, source: s}]\n",
		miss: head + "rules: [{attribute: a, rule: at-least, absent: {value: \"0\"}, source: s}]\n"},
	{code: RuleNever, what: "a refusal of everything",
		hit:  head + "rules: [{attribute: a, rule: equal, refused: [{source: \"*\", target: \"*\"}], source: s}]\n",
		miss: head + "rules: [{attribute: a, rule: equal, refused: [{source: \"*\", target: \"1*\"}], source: s}]\n"},
	{code: RuleNever, what: "words as versions",
		hit:  head + "rules: [{attribute: os.id, of: host, rule: semver, source: s}]\n",
		miss: head + "rules: [{attribute: kernel.release, of: host, rule: semver, source: s}]\n"},
	{code: RuleNever, what: "a range of one attribute",
		hit:  head + "rules: [{attribute: a, rule: range, min: b, max: b, source: s}]\n",
		miss: head + "rules: [{attribute: a, rule: range, min: b, max: c, source: s}]\n"},
	{code: RuleNever, what: "every build is bad",
		hit:  head + "build: {modules: [m]}\nknown-bad: [{builds: [{\"module:m\": \"*\"}], reason: r, source: s}]\n",
		miss: head + "build: {modules: [m]}\nknown-bad: [{builds: [{\"module:m\": \"a*\"}], reason: r, source: s}]\n"},
	{code: RuleNever, what: "a digest as a version",
		hit:  head + "build: {modules: [m], versions: [{part: \"module:m\", rule: semver, source: s}]}\n",
		miss: head + "build: {facts: [m], versions: [{part: \"fact:m\", rule: semver, source: s}]}\n"},
	{code: RuleNever, what: "an entry after one for all",
		hit:  head + "migration: [{can: \"yes\", source: s}, {can: \"no\", types: x, source: s}]\n",
		miss: head + "migration: [{can: \"no\", types: x, source: s}, {can: \"yes\", source: s}]\n"},
	{code: RuleNever, what: "values that it cannot read",
		hit: head + "rules: [{attribute: rate, rule: at-least, source: s}]\n", miss: head + "rules: [{attribute: rate, rule: at-least, source: s}]\n",
		hits: []*inventory.Inventory{host("a", kind("acme", "q", "rate", "fast"))},
		near: []*inventory.Inventory{host("a", kind("acme", "q", "rate", "9"))}},
	{code: RuleNever, what: "an attribute that does not exist",
		hit: ruled, miss: head + "rules: [{attribute: size, rule: equal, source: s}]\n",
		hits: []*inventory.Inventory{host("a", kind("acme", "q", "size", "8"))},
		near: []*inventory.Inventory{host("a", kind("acme", "q", "size", "8"))}},
	{code: RuleAlways, what: "an attribute that does not exist",
		hit: head + "rules: [{attribute: rate, rule: at-least, absent: off, source: s}]\n", miss: head + "rules: [{attribute: rate, rule: at-least, absent: off, source: s}]\n",
		hits: []*inventory.Inventory{host("a", kind("acme", "q"))},
		near: []*inventory.Inventory{host("a", kind("acme", "q"), kind("acme", "r", "rate", "9"))}},
	{code: RuleAlways, what: "an epoch of every build",
		hit:  head + "build: {modules: [m]}\nepochs: [{name: e, builds: [{\"module:m\": \"*\"}], source: s}]\n",
		miss: head + "build: {modules: [m]}\nepochs: [{name: e, builds: [{\"module:m\": \"ab*\"}], source: s}]\n"},
}

// TestCodes: every code has input that triggers it and a near miss that does
// not.
func TestCodes(t *testing.T) {
	seen := make(map[Code]bool)
	for _, c := range cases {
		t.Run(string(c.code)+" "+c.what, func(t *testing.T) {
			run := func(text string, inventories []*inventory.Inventory, proofs []compat.Proof) []Finding {
				in := Input{Inventories: inventories, Proofs: proofs}
				if text != "" {
					in.Catalogs = []*compat.Catalog{parse(t, text)}
				}
				return Run(in)
			}
			has := func(f Finding) bool { return f.Code == c.code }
			found := run(c.hit, c.hits, nil)
			if !slices.ContainsFunc(found, has) {
				t.Errorf("not found; only %+v", found)
			}
			for _, f := range found {
				if f.Place == "" || f.About == "" || f.Reason == "" || f.Better == "" {
					t.Errorf("a finding without place, reason or better form: %+v", f)
				}
			}
			if found := run(c.miss, c.near, c.proofs); slices.ContainsFunc(found, has) {
				t.Errorf("found in the near miss: %+v", found)
			}
		})
		seen[c.code] = true
	}
	for _, code := range Codes() {
		if !seen[code] || code.Meaning() == "" {
			t.Errorf("%s has no case, or no meaning", code)
		}
	}
}

// TestBuiltIn: a built-in catalog passes, or waives with a source; and every
// waiver waives something, of the catalog or of a host that has its devices.
func TestBuiltIn(t *testing.T) {
	known, err := compat.NewCatalogs(compat.BuiltIn(), nil)
	if err != nil {
		t.Fatal(err)
	}
	mtty := host("a", labelled(kind("mtty", "1"), "Single port serial"))
	found := Run(Input{Catalogs: compat.BuiltIn(), Inventories: []*inventory.Inventory{mtty}, Known: known})
	waived := make(map[string]bool)
	for _, f := range found {
		if f.Waived == "" {
			t.Errorf("%s: %s %s: %s", f.Place, f.Code, f.About, f.Reason)
		}
		waived[string(f.Code)+f.Waived] = true
	}
	for _, c := range compat.BuiltIn() {
		for _, w := range c.Waivers {
			if !waived[w.Code+w.Reason+" ("+w.Source+")"] {
				t.Errorf("%s waives %s for nothing", c.Name, w.Code)
			}
			if meanings()[Code(w.Code)] == "" {
				t.Errorf("%s waives %s, which does not exist", c.Name, w.Code)
			}
		}
	}
}

// TestOrder: the order of the input does not matter.
func TestOrder(t *testing.T) {
	a, b := host("a", kind("acme", "q", "size", "8")), host("b", kind("acme", "r", "size", "8"))
	lines := func(list ...*inventory.Inventory) string {
		var codes []string
		for _, f := range Run(Input{Inventories: list}) {
			codes = append(codes, string(f.Code))
		}
		slices.Sort(codes)
		return strings.Join(codes, " ")
	}
	if one, two := lines(a, b), lines(b, a); one != two || one == "" {
		t.Errorf("%s, and the other way round %s", one, two)
	}
}
