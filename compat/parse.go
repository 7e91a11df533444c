// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/goccy/go-yaml/ast"

	"kindred/internal/strictyaml"
	"kindred/inventory"
)

// ParseCatalog reads one catalog file; name is for messages. What could never
// do what it says is refused, with line and column.
func ParseCatalog(name string, data []byte) (*Catalog, error) {
	c := &Catalog{Name: name}
	err := strictyaml.Decode(data, c)
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return nil, fmt.Errorf("catalog %s: %w", name, err)
	}
	return c, nil
}

// check judges what one entry alone does not show.
func (c *Catalog) check() error {
	bad := func(line int, format string, args ...any) error {
		return &strictyaml.Error{Line: max(line, 1), Column: 1, Problem: fmt.Sprintf(format, args...)}
	}
	switch {
	case c.Schema == "":
		return bad(1, "schema is missing: a catalog begins with schema: %s", CatalogSchema)
	case len(c.Namespaces) == 0 || slices.Contains(c.Namespaces, ""):
		return bad(1, "no namespaces, or an empty one: a catalog says which drivers it is about")
	}
	for _, list := range []struct {
		what string
		n    int
	}{
		{"rules", len(c.Rules)}, {"migration", len(c.Migration)}, {"epochs", len(c.Epochs)}, {"known-bad", len(c.KnownBad)},
		{"equivalent", len(c.Equivalent)}, {"waivers", len(c.Waivers)}, {"examples", len(c.Examples.Cases)}, {"namespaces", len(c.Namespaces)},
	} {
		if list.n > maxEntries {
			return bad(1, "%d entries in %s: a catalog has at most %d, since each may be held against each", list.n, list.what, maxEntries)
		}
	}
	for i := range c.Rules {
		for k := range i {
			if a, b := &c.Rules[k], &c.Rules[i]; a.Of == b.Of && a.Attribute == b.Attribute && (a.Types == b.Types || a.Types == "" || b.Types == "") {
				return bad(b.Line, "a second rule for %q: the first is in line %d", b.Attribute, a.Line)
			}
		}
	}
	for _, v := range c.Build.Versions {
		if !c.Build.has(v.Part) {
			return bad(v.Line, "part %q is not in the build", v.Part)
		}
	}
	selectors := func(line int, list []Selector) error {
		for _, s := range list {
			for part := range s {
				if !c.Build.has(part) {
					return bad(line, "part %q is not in the build", part)
				}
			}
		}
		return nil
	}
	for i := range c.Equivalent {
		e := &c.Equivalent[i]
		if e.Ratio != nil && !slices.ContainsFunc(c.Rules, func(r Rule) bool { return r.Of == OfDevice && r.Kind == Copy && r.Attribute == e.Ratio.Attribute }) {
			return bad(e.Line, "no rule copies %q, which the ratio is about", e.Ratio.Attribute)
		}
	}
	for _, e := range c.Epochs {
		if err := selectors(e.Line, e.Builds); err != nil {
			return err
		}
	}
	for _, k := range c.KnownBad {
		if err := selectors(k.Line, k.Builds); err != nil {
			return err
		}
	}
	return nil
}

// has reports whether builds of this catalog have the part.
func (b *BuildParts) has(part string) bool {
	kind, name, ok := strings.Cut(part, ":")
	if !ok || name == "" {
		return false
	}
	if b.empty() { // everything that is found
		return kind == "module" || kind == "param" || kind == "firmware"
	}
	switch kind {
	case "module":
		return slices.Contains(b.Modules, name)
	case "param":
		module, _, _ := strings.Cut(name, "/")
		return slices.Contains(b.Parameters, name) || slices.Contains(b.Parameters, module+"/*")
	case "firmware":
		return slices.Contains(b.Firmware, name)
	case "fact":
		return slices.Contains(b.Facts, name)
	}
	return false
}

// enum decodes a scalar that is one of a few words.
func enum[T ~string](node ast.Node, into *T, what string, allowed ...T) error {
	var text string
	if err := strictyaml.Node(node, &text); err != nil {
		return err
	}
	if !slices.Contains(allowed, T(text)) {
		words := make([]string, len(allowed))
		for i, a := range allowed {
			words[i] = string(a)
		}
		return strictyaml.At(node, "unknown %s %q: it is one of %s", what, text, strings.Join(words, ", "))
	}
	*into = T(text)
	return nil
}

func (s *SchemaName) UnmarshalYAML(node ast.Node) error {
	return enum(node, s, "schema", CatalogSchema)
}

func (k *RuleKind) UnmarshalYAML(node ast.Node) error {
	return enum(node, k, "rule", Equal, Superset, AtLeast, AtMost, SemVer, Range, OneOf, Copy, Ignore)
}

func (f *Form) UnmarshalYAML(node ast.Node) error {
	return enum(node, f, "form", Text, Number, List, BitMask)
}

func (p *Place) UnmarshalYAML(node ast.Node) error {
	return enum(node, p, "place", OfType, OfDevice, OfParent, OfFirmware, OfDescription, OfFact, OfHost)
}

func (i *Identity) UnmarshalYAML(node ast.Node) error {
	return enum(node, i, "identity", ByName, ByLabel)
}

func (c *Canaries) UnmarshalYAML(node ast.Node) error {
	return enum(node, c, "word for canaries", CanariesSafe, CanariesUnsafe, CanariesUnknown)
}

func (g *Grade) UnmarshalYAML(node ast.Node) error {
	var text string
	if err := strictyaml.Node(node, &text); err != nil {
		return err
	}
	if err := g.UnmarshalText([]byte(text)); err != nil {
		return strictyaml.At(node, "%v", err)
	}
	return nil
}

// UnmarshalYAML reads unknown, off, alike, or {value: text}.
func (a *Absence) UnmarshalYAML(node ast.Node) error {
	if node.Type() == ast.MappingType || node.Type() == ast.MappingValueType {
		var given struct {
			Value string `yaml:"value"`
		}
		if err := strictyaml.Node(node, &given); err != nil {
			return err
		}
		if given.Value == "" {
			return strictyaml.At(node, "an empty default value: use off for a feature that is off")
		}
		a.Default = given.Value
		return nil
	}
	var word string
	if err := enum(node, &word, "meaning of absence", "unknown", "off", "alike"); err != nil {
		return err
	}
	a.Off, a.Alike = word == "off", word == "alike"
	return nil
}

func line(node ast.Node) int { return node.GetToken().Position.Line }

func (m *Migration) UnmarshalYAML(node ast.Node) error {
	var given struct {
		Can       string `yaml:"can"`
		Namespace string `yaml:"namespace"`
		Types     string `yaml:"types"`
		Kernel    string `yaml:"kernel-before"`
		Source    string `yaml:"source"`
	}
	if err := strictyaml.Node(node, &given); err != nil {
		return err
	}
	*m = Migration{inventory.Answer(given.Can), given.Namespace, given.Types, given.Kernel, given.Source}
	switch {
	case m.Can != inventory.Yes && m.Can != inventory.No && m.Can != inventory.Unknown:
		return strictyaml.At(node, "can is %q: it is one of yes, no, unknown, in quotes", m.Can)
	case m.Source == "":
		return strictyaml.At(node, "it does not say its source")
	case !validGlob(m.Namespace) || !validGlob(m.Types):
		return strictyaml.At(node, "a malformed glob")
	case m.Kernel != "":
		if _, _, ok := parseVersion(m.Kernel); !ok {
			return strictyaml.At(node, "kernel-before %q is not major.minor", m.Kernel)
		}
	}
	return nil
}

func (b *BuildParts) UnmarshalYAML(node ast.Node) error {
	type plain BuildParts
	if err := strictyaml.Node(node, (*plain)(b)); err != nil {
		return err
	}
	for _, p := range b.Parameters {
		if module, param, ok := strings.Cut(p, "/"); !ok || module == "" || param == "" {
			return strictyaml.At(node, "parameter %q is not <module>/<parameter>", p)
		}
	}
	for _, name := range slices.Concat(b.Modules, b.Firmware, b.Facts) {
		if name == "" {
			return strictyaml.At(node, "an empty name")
		}
	}
	return nil
}

func (v *VersionRule) UnmarshalYAML(node ast.Node) error {
	type plain VersionRule
	if err := strictyaml.Node(node, (*plain)(v)); err != nil {
		return err
	}
	v.Line = line(node)
	if v.Part == "" || v.Source == "" || !slices.Contains([]RuleKind{SemVer, AtLeast, AtMost}, v.Rule) {
		return strictyaml.At(node, "it needs a part, a source, and one of the rules semver, at-least, at-most")
	}
	return nil
}

func (s *Selector) UnmarshalYAML(node ast.Node) error {
	var given map[string]string
	if err := strictyaml.Node(node, &given); err != nil {
		return err
	}
	if len(given) == 0 {
		return strictyaml.At(node, "a selector that selects nothing")
	}
	for part, glob := range given {
		if !validGlob(glob) {
			return strictyaml.At(node, "the glob %q for %s is malformed", glob, part)
		}
	}
	*s = given
	return nil
}

func (e *Epoch) UnmarshalYAML(node ast.Node) error {
	type plain Epoch
	if err := strictyaml.Node(node, (*plain)(e)); err != nil {
		return err
	}
	e.Line = line(node)
	if e.Name == "" || len(e.Builds) == 0 || e.Source == "" {
		return strictyaml.At(node, "an epoch needs a name, builds and a source")
	}
	return nil
}

func (k *KnownBad) UnmarshalYAML(node ast.Node) error {
	type plain KnownBad
	if err := strictyaml.Node(node, (*plain)(k)); err != nil {
		return err
	}
	k.Line = line(node)
	if len(k.Builds) == 0 || k.Reason == "" || k.Source == "" || !slices.Contains([]string{"", "both", "source", "target"}, k.Role) {
		return strictyaml.At(node, "it needs builds, a reason, a source, and a role of source, target or both")
	}
	return nil
}

func (e *Equivalence) UnmarshalYAML(node ast.Node) error {
	type plain Equivalence
	if err := strictyaml.Node(node, (*plain)(e)); err != nil {
		return err
	}
	e.Line = line(node)
	if len(e.Types) < 2 || e.Source == "" || slices.ContainsFunc(e.Types, func(n FullName) bool { return n.Namespace == "" || n.Name == "" }) {
		return strictyaml.At(node, "an equivalence needs two types or more, each with namespace and name, and a source")
	}
	if len(e.Types) > maxTypes {
		return strictyaml.At(node, "%d types: an equivalence has at most %d", len(e.Types), maxTypes)
	}
	return e.checkRatio(node)
}

func (e *Equivalence) checkRatio(node ast.Node) error {
	switch r := e.Ratio; {
	case r == nil:
	case r.Attribute == "" || len(r.Units) != len(e.Types):
		return strictyaml.At(node, "a ratio needs an attribute, and the units of each of the %d types", len(e.Types))
	case slices.ContainsFunc(r.Units, func(n int) bool { return n < 1 || n > maxUnits }):
		return strictyaml.At(node, "units are whole numbers from 1 to %d", maxUnits)
	}
	return nil
}

// What a catalog can list, so that comparing all with all stays quick.
const (
	maxEntries = 1000
	maxTypes   = 64 // of one equivalence
)

// maxUnits keeps products of units and attribute values exact.
const maxUnits = 1 << 20

// UnmarshalYAML refuses a type that is declared equivalent twice: the lists
// would be a chain or a cycle, and which of them counts nobody could tell.
func (es *Equivalences) UnmarshalYAML(node ast.Node) error {
	if err := strictyaml.Node(node, (*[]Equivalence)(es)); err != nil {
		return err
	}
	first := make(map[FullName]int)
	for i := range *es {
		e := &(*es)[i]
		for _, n := range e.Types {
			at, twice := first[n]
			if !twice {
				first[n] = e.Line
				continue
			}
			place := node
			if list, ok := node.(*ast.SequenceNode); ok && i < len(list.Values) {
				place = list.Values[i]
			}
			return strictyaml.At(place, "%s-%s is declared equivalent in line %d already: name all types of one interface in one list", n.Namespace, n.Name, at)
		}
	}
	return nil
}

func (w *Waiver) UnmarshalYAML(node ast.Node) error {
	type plain Waiver
	if err := strictyaml.Node(node, (*plain)(w)); err != nil {
		return err
	}
	if w.Code == "" || w.Reason == "" || w.Source == "" || !validGlob(w.About) {
		return strictyaml.At(node, "a waiver needs the code it waives, a reason and a source; about is a glob")
	}
	return nil
}

func (p *ProofPolicy) UnmarshalYAML(node ast.Node) error {
	type plain ProofPolicy
	if err := placed(node, strictyaml.Node(node, (*plain)(p))); err != nil {
		return err
	}
	for i := range p.Exercise {
		if a := &p.Exercise[i]; len(a.Write) == 0 || a.Length != 0 {
			return strictyaml.At(node, "exercise %d: an exercise writes (write), and reads nothing", i+1)
		}
	}
	for i := range p.Observe {
		if a := &p.Observe[i]; a.Length == 0 || len(a.Write) != 0 {
			return strictyaml.At(node, "observe %d: an observation reads (length), and writes nothing", i+1)
		}
	}
	if len(p.Exercise)+len(p.Observe) > MaxAccesses {
		return strictyaml.At(node, "more than %d accesses", MaxAccesses)
	}
	return nil
}

// What a canary may be asked for.
const (
	MaxAccesses = 1000
	maxAccess   = 1 << 20 // bytes
	maxRegion   = 1000    // devices have regions of their own beyond those of PCI
)

func (a *Access) UnmarshalYAML(node ast.Node) error {
	type plain Access
	if err := placed(node, strictyaml.Node(node, (*plain)(a))); err != nil {
		return err
	}
	if err := a.Check(); err != nil {
		return strictyaml.At(node, "%v", err)
	}
	return nil
}

// Check refuses what no device is asked for, whoever says so: a catalog, or the
// notes of a stream from another host.
func (a *Access) Check() error {
	switch {
	case a.Region < 0 || a.Region > maxRegion:
		return fmt.Errorf("region %d: a region is an index from 0 to %d", a.Region, maxRegion)
	case a.At < 0:
		return fmt.Errorf("at %d is before the region", a.At)
	case a.Length < 0 || a.Length > maxAccess || len(a.Write) > maxAccess:
		return fmt.Errorf("an access has at most %d bytes", maxAccess)
	case !validGlob(a.Types):
		return fmt.Errorf("%q is not a glob", a.Types)
	}
	return nil
}

// UnmarshalYAML reads hexadecimal digits; blanks between bytes are for people.
func (b *Bytes) UnmarshalYAML(node ast.Node) error {
	var text string
	if err := strictyaml.Node(node, &text); err != nil {
		return err
	}
	data, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil || len(data) == 0 {
		return strictyaml.At(node, "%q is not bytes in hexadecimal: write two digits for each, in quotes", text)
	}
	*b = data
	return nil
}

// MarshalText writes them as UnmarshalYAML reads them.
func (b Bytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b), nil }

func (b *Bytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

// placed puts an error that has no place, as types that read text make it,
// where the node is.
func placed(node ast.Node, err error) error {
	if e, ok := errors.AsType[*strictyaml.Error](err); ok && e.Line <= 1 && e.Column <= 1 {
		return strictyaml.At(node, "%s", e.Problem)
	}
	return err
}

// ruleText is a rule as catalogs write it.
type ruleText struct {
	Attribute string   `yaml:"attribute"`
	Of        Place    `yaml:"of"`
	Types     string   `yaml:"types"`
	Kind      RuleKind `yaml:"rule"`
	Against   string   `yaml:"against"`
	Min       string   `yaml:"min"`
	Max       string   `yaml:"max"`
	Form      Form     `yaml:"as"`
	Absent    Absence  `yaml:"absent"`
	Refused   []Pair   `yaml:"refused"`
	Otherwise string   `yaml:"otherwise"`
	Source    string   `yaml:"source"`
}

func (r *Rule) UnmarshalYAML(node ast.Node) error {
	var given ruleText
	if err := strictyaml.Node(node, &given); err != nil {
		return err
	}
	*r = Rule{
		Attribute: given.Attribute, Of: given.Of, Types: given.Types, Kind: given.Kind, Against: given.Against,
		Min: given.Min, Max: given.Max, Form: given.Form, Absent: given.Absent, Refused: given.Refused,
		Source: given.Source, Line: line(node),
	}
	if r.Of == "" {
		r.Of = OfType
	}
	switch given.Otherwise {
	case "", "incompatible":
	case "unknown":
		r.Otherwise = Unknown
	default:
		return strictyaml.At(node, "otherwise is %q: it is incompatible (the default) or unknown (%q)", given.Otherwise, r.Attribute)
	}
	return r.check(node)
}

// forms are the forms that each rule reads; text is every rule's default.
var forms = sync.OnceValue(func() map[RuleKind][]Form {
	return map[RuleKind][]Form{
		Equal:    {"", Text, Number, List},
		Superset: {"", List, BitMask},
		AtLeast:  {"", Number},
		AtMost:   {"", Number},
		SemVer:   {"", Text},
		Range:    {"", Number},
		OneOf:    {"", List},
		Copy:     {""},
		Ignore:   {""},
	}
})

// check refuses rules that could never do what they say.
func (r *Rule) check(node ast.Node) error {
	bad := func(format string, args ...any) error { return strictyaml.At(node, format, args...) }
	switch {
	case r.Attribute == "":
		return bad("a rule names its attribute")
	case strings.ContainsAny(r.Attribute, "*?["):
		return bad("%q is not the name of an attribute: a rule is about one", r.Attribute)
	case r.Kind == "":
		return bad("the rule for %q does not say how it is compared", r.Attribute)
	case r.Source == "":
		return bad("the rule for %q does not say its source", r.Attribute)
	case r.Kind == Range && (r.Min == "" || r.Max == "") || r.Kind != Range && (r.Min != "" || r.Max != ""):
		return bad("min and max belong to the rule range, and range needs both (%q)", r.Attribute)
	case r.Kind == Range && r.Against != "":
		return bad("range compares with min and max, not with another attribute (%q)", r.Attribute)
	case r.Kind == Copy && r.Of != OfDevice:
		return bad("copy sets an attribute of the device: %q is of the %s", r.Attribute, r.Of)
	case r.Of == OfDevice && r.Against == "" && r.Kind != Copy && r.Kind != Ignore && r.Kind != Range:
		return bad("the target has no device yet: compare %q of the device against an attribute of its type, or copy or ignore it", r.Attribute)
	case r.Of == OfDescription && (r.Against != "" || r.Kind == Range):
		return bad("what a description says is compared with the same of the target's (%q)", r.Attribute)
	case (r.Kind == Copy || r.Kind == Ignore) && (len(r.Refused) > 0 || r.Otherwise != 0):
		return bad("%s compares nothing: refused and otherwise do not belong there (%q)", r.Kind, r.Attribute)
	case slices.ContainsFunc(r.Refused, func(p Pair) bool {
		return p.Source == "" || p.Target == "" || !validGlob(p.Source) || !validGlob(p.Target)
	}):
		return bad("a refused pair has a source and a target, both globs (%q)", r.Attribute)
	case r.Of == OfHost && !slices.Contains(hostAttributes, r.Attribute):
		return bad("a host has no attribute %q: it has %s", r.Attribute, strings.Join(hostAttributes, ", "))
	case !slices.Contains(forms()[r.Kind], r.Form):
		return bad("the rule %s does not read %s (%q)", r.Kind, r.Form, r.Attribute)
	case !validGlob(r.Types):
		return bad("%q is not a glob", r.Types)
	}
	return nil
}

// hostAttributes are what rules can ask of a host.
var hostAttributes = []string{"kernel.release", "kernel.arch", "os", "os.id", "os.version_id", "qemu", "libvirt"}
