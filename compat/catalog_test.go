// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindred/internal/strictyaml"
	"kindred/inventory"
)

const catalogHead = "schema: kindred.catalog/v1\nnamespaces: [ns]\n"

const wholeCatalog = catalogHead + `title: everything that a catalog can say
identity: label
migration:
  - {can: "no", types: t*, kernel-before: "6.7", source: s1}
  - {can: "yes", namespace: n*, source: s2}
build:
  modules: [m, core]
  parameters: [m/debug, core/*]
  firmware: [fw.version]
  facts: [manager]
  versions:
    - {part: "fact:manager", rule: semver, source: s3}
proof:
  lowest: fresh-state
  canaries: unsafe
  shaping: [frame_buffer]
rules:
  - {attribute: a, rule: equal, as: list, source: s4}
  - {attribute: b, of: parent, types: "t?", rule: at-least, absent: off, source: s5}
  - attribute: c
    rule: range
    min: lo
    max: hi
    absent: {value: "0"}
    source: s6
  - {attribute: d, of: device, rule: superset, as: bits, against: e, absent: unknown, source: s7}
epochs:
  - {name: e1, builds: [{"module:m": "b*"}], source: s8}
known-bad:
  - {builds: [{"module:m": b9}], role: target, reason: corrupts, source: s9}
equivalent:
  - types: [{namespace: ns, name: t}, {namespace: nt, name: t}]
    source: s10
`

func TestParseCatalog(t *testing.T) {
	got, err := ParseCatalog("test", []byte(wholeCatalog))
	if err != nil {
		t.Fatal(err)
	}
	want := &Catalog{
		Schema: CatalogSchema, Title: "everything that a catalog can say", Namespaces: []string{"ns"}, Name: "test", Identity: ByLabel,
		Migration: []Migration{{Can: inventory.No, Types: "t*", Kernel: "6.7", Source: "s1"}, {Can: inventory.Yes, Namespace: "n*", Source: "s2"}},
		Build: BuildParts{
			Modules: []string{"m", "core"}, Parameters: []string{"m/debug", "core/*"}, Firmware: []string{"fw.version"}, Facts: []string{"manager"},
			Versions: []VersionRule{{Part: "fact:manager", Rule: SemVer, Source: "s3"}},
		},
		Proof: ProofPolicy{Lowest: FreshState, Canaries: "unsafe", Shaping: []string{"frame_buffer"}},
		Rules: []Rule{
			{Attribute: "a", Of: OfType, Kind: Equal, Form: List, Source: "s4"},
			{Attribute: "b", Of: OfParent, Types: "t?", Kind: AtLeast, Absent: Absence{Off: true}, Source: "s5"},
			{Attribute: "c", Of: OfType, Kind: Range, Min: "lo", Max: "hi", Absent: Absence{Default: "0"}, Source: "s6"},
			{Attribute: "d", Of: OfDevice, Kind: Superset, Form: BitMask, Against: "e", Source: "s7"},
		},
		Epochs:     []Epoch{{Name: "e1", Builds: []Selector{{"module:m": "b*"}}, Source: "s8"}},
		KnownBad:   []KnownBad{{Builds: []Selector{{"module:m": "b9"}}, Role: "target", Reason: "corrupts", Source: "s9"}},
		Equivalent: []Equivalence{{Types: []FullName{{"ns", "t"}, {"nt", "t"}}, Source: "s10"}},
	}
	for i := range got.Rules {
		if got.Rules[i].Line == 0 {
			t.Errorf("rule %d does not know its line", i)
		}
		got.Rules[i].Line = 0
	}
	got.Build.Versions[0].Line, got.Epochs[0].Line, got.KnownBad[0].Line, got.Equivalent[0].Line = 0, 0, 0, 0
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// badCatalogs are files that must be refused, each with the words of the
// refusal and the line at fault; 0 where the file as a whole is.
var badCatalogs = []struct {
	name, text, words string
	line              int
}{
	{"empty", "", "schema", 0},
	{"no catalog", "hello\n", "mapping", 1},
	{"not YAML", catalogHead + "title: [1\n", "", 3},
	{"unclosed quote", catalogHead + "title: \"x\n", "", 3},
	{"another schema", "schema: kindred.catalog/v2\nnamespaces: [ns]\n", "kindred.catalog/v2", 0},
	{"no namespaces", "schema: kindred.catalog/v1\n", "namespaces", 0},
	{"unknown key", catalogHead + "colour: red\n", "colour", 3},
	{"unknown key in a rule", catalogHead + "rules:\n  - attribute: a\n    rule: equal\n    colour: red\n    source: s\n", "colour", 6},
	{"unknown key in a migration", catalogHead + "migration:\n  - can: \"yes\"\n    colour: red\n    source: s\n", "colour", 5},
	{"unknown key in absent", catalogHead + "rules:\n  - attribute: a\n    rule: equal\n    absent: {off: true}\n    source: s\n", "off", 6},
	{"duplicate key", catalogHead + "title: a\ntitle: b\n", "title", 4},
	{"duplicate key in a rule", catalogHead + "rules:\n  - attribute: a\n    rule: equal\n    rule: equal\n    source: s\n", "rule", 6},
	{"text for a list", "schema: kindred.catalog/v1\nnamespaces: ns\n", "", 2},
	{"a list for text", catalogHead + "title: [a]\n", "", 3},
	{"a mapping for a list", catalogHead + "rules: {a: b}\n", "", 3},
	{"anchor", catalogHead + "title: &a x\n", "anchors", 3},
	{"alias", catalogHead + "title: *a\n", "anchors", 3},
	{"merge key", catalogHead + "<<: {title: a}\n", "anchors", 3},
	{"deep flow", catalogHead + "title: " + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "\n", "deep", 3},
	{"deep mappings", catalogHead + "title: " + strings.Repeat("{a: ", 100) + strings.Repeat("}", 100) + "\n", "deep", 3},
	{"deep blocks", catalogHead + deepBlock(100), "deep", 0},
	{"too long", catalogHead + "# " + strings.Repeat("x", 1<<20) + "\n", "bytes", 0},
	{"unknown rule", catalogHead + "rules:\n  - attribute: a\n    rule: similar\n    source: s\n", `unknown rule "similar"`, 5},
	{"unknown place", catalogHead + "rules:\n  - attribute: a\n    of: moon\n    rule: equal\n    source: s\n", `unknown place "moon"`, 5},
	{"unknown form", catalogHead + "rules:\n  - attribute: a\n    rule: equal\n    as: poem\n    source: s\n", `unknown form "poem"`, 6},
	{"unknown absence", catalogHead + "rules:\n  - attribute: a\n    rule: equal\n    absent: maybe\n    source: s\n", "meaning of absence", 6},
	{"empty default", catalogHead + "rules:\n  - attribute: a\n    rule: equal\n    absent: {value: \"\"}\n    source: s\n", "empty default", 6},
	{"unknown identity", catalogHead + "identity: face\n", `unknown identity "face"`, 3},
	{"unknown grade", catalogHead + "proof:\n  lowest: perfect\n", "unknown grade", 4},
	{"unknown canaries", catalogHead + "proof:\n  canaries: yellow\n", "yellow", 0},
	{"no attribute", catalogHead + "rules:\n  - rule: equal\n    source: s\n", "names its attribute", 4},
	{"no rule", catalogHead + "rules:\n  - attribute: a\n    source: s\n", "how it is compared", 4},
	{"a rule without source", catalogHead + "rules:\n  - attribute: a\n    rule: equal\n", "source", 4},
	{"range without min", catalogHead + "rules:\n  - attribute: a\n    rule: range\n    max: hi\n    source: s\n", "range needs both", 4},
	{"range without either", catalogHead + "rules:\n  - attribute: a\n    rule: range\n    source: s\n", "range needs both", 4},
	{"range against", catalogHead + "rules:\n  - {attribute: a, rule: range, min: lo, max: hi, against: b, source: s}\n", "range compares", 4},
	{"min and max elsewhere", catalogHead + "rules:\n  - {attribute: a, rule: equal, min: lo, max: hi, source: s}\n", "belong to the rule range", 4},
	{"copy of the type", catalogHead + "rules:\n  - {attribute: a, rule: copy, source: s}\n", "copy sets", 4},
	{"device against nothing", catalogHead + "rules:\n  - {attribute: a, of: device, rule: equal, source: s}\n", "no device yet", 4},
	{"bits by equal", catalogHead + "rules:\n  - {attribute: a, rule: equal, as: bits, source: s}\n", "does not read bits", 4},
	{"rule's glob", catalogHead + "rules:\n  - {attribute: a, rule: equal, types: \"[\", source: s}\n", "glob", 4},
	{"migration without source", catalogHead + "migration:\n  - can: \"yes\"\n", "source", 0},
	{"migration without can", catalogHead + "migration:\n  - source: s\n", "can", 0},
	{"migration's glob", catalogHead + "migration:\n  - {can: \"yes\", types: \"[\", source: s}\n", "glob", 0},
	{"migration's kernel", catalogHead + "migration:\n  - {can: \"no\", kernel-before: six, source: s}\n", "six", 0},
	{"version by equal", catalogHead + "build:\n  versions:\n    - {part: p, rule: equal, source: s}\n", "semver", 0},
	{"version without source", catalogHead + "build:\n  versions:\n    - {part: p, rule: semver}\n", "source", 0},
	{"parameter without module", catalogHead + "build:\n  parameters: [debug]\n", "debug", 0},
	{"known-bad without reason", catalogHead + "known-bad:\n  - {builds: [{p: v}], source: s}\n", "reason", 0},
	{"known-bad without builds", catalogHead + "known-bad:\n  - {reason: r, source: s}\n", "builds", 0},
	{"known-bad's role", catalogHead + "known-bad:\n  - {builds: [{p: v}], reason: r, role: host, source: s}\n", "role", 0},
	{"epoch without builds", catalogHead + "epochs:\n  - {name: e, source: s}\n", "an epoch needs", 0},
	{"too many rules", catalogHead + "rules:\n" + strings.Repeat("  - {attribute: a, rule: equal, source: s}\n", maxEntries+1), "at most 1000", 0},
	{"too many types", catalogHead + "equivalent:\n  - {source: s, types: [" + strings.Repeat("{namespace: a, name: b}, ", maxTypes+1) + "]}\n", "at most 64", 4},
	{"equivalent twice", catalogHead + "equivalent:\n  - {source: s, types: [{namespace: a, name: b}, {namespace: a, name: c}]}\n  - {source: s, types: [{namespace: a, name: c}, {namespace: a, name: d}]}\n", "line 4 already", 5},
	{"a ratio without a copy", catalogHead + "equivalent:\n  - {source: s, ratio: {attribute: x, units: [1, 2]}, types: [{namespace: a, name: b}, {namespace: a, name: c}]}\n", "no rule copies", 4},
	{"a ratio of nothing", catalogHead + "equivalent:\n  - {source: s, ratio: {attribute: x, units: [0, 2]}, types: [{namespace: a, name: b}, {namespace: a, name: c}]}\n", "whole numbers", 4},
	{"another otherwise", catalogHead + "rules:\n  - {attribute: a, rule: equal, otherwise: compatible, source: s}\n", "otherwise", 4},
	{"otherwise of a copy", catalogHead + "rules:\n  - {attribute: a, of: device, rule: copy, otherwise: unknown, source: s}\n", "compares nothing", 4},
	{"half a pair", catalogHead + "rules:\n  - {attribute: a, rule: equal, refused: [{source: x}], source: s}\n", "refused pair", 4},
	{"a description against another", catalogHead + "rules:\n  - {attribute: a, of: description, rule: equal, against: b, source: s}\n", "description", 4},
	{"unknown capacity", catalogHead + "capacity: {model: elastic, source: s}\n", "unknown capacity model", 3},
	{"capacity without source", catalogHead + "capacity: {model: one}\n", "a source", 3},
	{"pools elsewhere", catalogHead + "capacity: {model: one, source: s, pools: [{name: p, takes: [{units: 1}]}]}\n", "model pools", 3},
	{"a pool of nothing", catalogHead + "capacity: {model: pools, source: s, pools: [{name: p, takes: [{units: 0}]}]}\n", "a pool has", 3},
	{"takes-truncated by a word", catalogHead + "proof: {takes-truncated: sometimes}\n", "one of yes, no, unknown", 3},
	{"waiver without reason", catalogHead + "waivers: [{code: name.prefix, source: s}]\n", "a waiver needs", 3},
	{"example without name", catalogHead + "examples: {cases: [{outcome: unknown}]}\n", "what it shows", 3},
	{"example of a strange proof", catalogHead + "examples: {cases: [{name: a, outcome: unknown, proof: {result: maybe, grade: observed}}]}\n", "a proof has", 3},
	{"example of a strange kind", catalogHead + "examples: {base: {kind: teapot}}\n", "unknown kind", 3},
	{"example of a strange place", catalogHead + "examples: {base: {unobserved: [\"moon:a\"]}}\n", "moon:a", 3},
	{"example with a setting twice", catalogHead + "examples: {base: {facts: {a: 1, a: 2}}}\n", "", 3},
	{"example of a strange host", catalogHead + "examples: {base: {host: {colour: red}}}\n", "colour", 3},
	{"equivalent to nothing", catalogHead + "equivalent:\n  - {types: [{namespace: ns, name: t}], source: s}\n", "two types or more", 0},
}

func deepBlock(levels int) string {
	var b strings.Builder
	for i := range levels {
		b.WriteString(strings.Repeat(" ", i) + "title:\n")
	}
	return b.String()
}

func TestParseBadCatalog(t *testing.T) {
	for _, c := range badCatalogs {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseCatalog("the-file", []byte(c.text))
			placed, ok := errors.AsType[*strictyaml.Error](err)
			if !ok {
				t.Fatalf("the error has no place: %v, %+v", err, got)
			}
			if placed.Line < 1 || placed.Column < 1 || c.line != 0 && placed.Line != c.line {
				t.Errorf("it is at line %d, column %d, want line %d: %v", placed.Line, placed.Column, c.line, err)
			}
			text := err.Error()
			if !strings.Contains(text, c.words) || !strings.Contains(text, "the-file") || strings.Contains(text, "\n") {
				t.Errorf("want one line with %q and the file's name: %s", c.words, text)
			}
		})
	}
}

func TestBuiltIn(t *testing.T) {
	entries, err := builtIn.ReadDir("catalog")
	if err != nil || len(entries) == 0 {
		t.Fatal(err, len(entries))
	}
	for _, entry := range entries {
		data, err := builtIn.ReadFile("catalog/" + entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseCatalog(entry.Name(), data)
		if err != nil {
			t.Error(err)
			continue
		}
		for i := range c.Migration {
			if m := &c.Migration[i]; m.Namespace != "" && !slices.ContainsFunc(c.Namespaces, func(ns string) bool { return matchGlob(m.Namespace, ns) }) {
				t.Errorf("%s: migration[%d] is about no namespace of the catalog", entry.Name(), i)
			}
		}
	}
	cs, err := NewCatalogs(BuiltIn(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if cs.For("mtty") == nil || cs.For("nobody") != nil || !slices.Contains(cs.Modules(), "mtty") {
		t.Error("mtty's catalog is not where it should be")
	}
}

func TestNewCatalogs(t *testing.T) {
	one := &Catalog{Name: "one", Namespaces: []string{"a", "b"}, Build: BuildParts{Modules: []string{"z", "y"}}}
	two := &Catalog{Name: "two", Namespaces: []string{"b", "c"}, Build: BuildParts{Modules: []string{"y"}}}
	cs, err := NewCatalogs([]*Catalog{one}, []*Catalog{two})
	if err != nil || cs.For("a") != one || cs.For("b") != two || cs.For("c") != two {
		t.Errorf("a site's catalog does not take the built-in one's place: %v", err)
	}
	if diff := cmp.Diff([]string{"y", "z"}, cs.Modules()); diff != "" {
		t.Error(diff)
	}
	for _, list := range [][]*Catalog{{one, two}, {two, one}} {
		if _, err := NewCatalogs(nil, list); err == nil || !strings.Contains(err.Error(), "b") {
			t.Errorf("two catalogs of a site are about b: %v", err)
		}
		if _, err := NewCatalogs(list, nil); err == nil {
			t.Error("two built-in catalogs are about b")
		}
	}
}

func FuzzParseCatalog(f *testing.F) {
	f.Add([]byte(wholeCatalog))
	for _, c := range badCatalogs {
		if len(c.text) < 4096 {
			f.Add([]byte(c.text))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<12 {
			return // how long a file may take is tested elsewhere
		}
		c, err := ParseCatalog("fuzz", data)
		if (c == nil) == (err == nil) {
			t.Fatalf("%v and %v", c, err)
		}
		if err != nil {
			placed, ok := errors.AsType[*strictyaml.Error](err)
			if !ok || placed.Line < 1 || placed.Column < 0 || strings.Contains(err.Error(), "\n") {
				t.Errorf("an error without a place: %v", err)
			}
			return
		}
		// What is parsed can be asked.
		if _, _, err := c.Try(nil); err != nil && len(c.Namespaces) == 1 {
			t.Fatal(err)
		}
		p := newPair()
		c.Namespaces = []string{"ns"}
		p.catalog = c
		p.promise()
		p.otherBuild()
		p.proved(func(*Proof) {})
		p.check(t)
		p.equivalent()
		p.check(t)
	})
}
