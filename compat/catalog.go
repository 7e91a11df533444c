// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"kindred/internal/strictyaml"
	"kindred/inventory"
)

// CatalogSchema names the shape of a catalog file.
const CatalogSchema = "kindred.catalog/v1"

// Catalog is what is known of the drivers of one or more namespaces.
type Catalog struct {
	Schema     string        `yaml:"schema"`
	Title      string        `yaml:"title"`
	Namespaces []string      `yaml:"namespaces"`
	Identity   Identity      `yaml:"identity"` // what names an interface; default name
	Migration  []Migration   `yaml:"migration"`
	Build      BuildParts    `yaml:"build"`
	Proof      ProofPolicy   `yaml:"proof"`
	Rules      []Rule        `yaml:"rules"`
	Epochs     []Epoch       `yaml:"epochs"`
	KnownBad   []KnownBad    `yaml:"known-bad"`
	Equivalent []Equivalence `yaml:"equivalent"`

	Name string `yaml:"-"` // the file it came from
}

// Identity is what makes two types the same interface.
type Identity string

const (
	ByName  Identity = "name"  // the full name
	ByLabel Identity = "label" // namespace and label, where names are numbers local to a card
)

// Migration says whether types can migrate; the first entry that applies
// counts. Without one it is unknown.
type Migration struct {
	Can       inventory.Answer `yaml:"can"`
	Namespace string           `yaml:"namespace"`     // glob; empty: every namespace of the catalog
	Types     string           `yaml:"types"`         // glob over type names; empty: all
	Kernel    string           `yaml:"kernel-before"` // applies to older kernels only: "6.7"
	Source    string           `yaml:"source"`
}

// BuildParts is what decides a driver's stream.
type BuildParts struct {
	Modules    []string      `yaml:"modules"`    // by build-id, or srcversion where there is none
	Parameters []string      `yaml:"parameters"` // <module>/<parameter>, or <module>/* for all of one module
	Firmware   []string      `yaml:"firmware"`   // devlink version names
	Facts      []string      `yaml:"facts"`
	Versions   []VersionRule `yaml:"versions"` // parts compared by version instead of equality
}

func (b *BuildParts) empty() bool {
	return len(b.Modules)+len(b.Parameters)+len(b.Firmware)+len(b.Facts) == 0
}

// VersionRule lets builds differ in one part as far as a rule allows.
type VersionRule struct {
	Part   string   `yaml:"part"` // as in Build: firmware:fw, fact:vgpu-manager
	Rule   RuleKind `yaml:"rule"` // semver, at-least, at-most
	Source string   `yaml:"source"`
}

// ProofPolicy is how proofs count for these drivers.
type ProofPolicy struct {
	Lowest   Grade    `yaml:"lowest"`   // the lowest grade that counts; default working-state
	Canaries string   `yaml:"canaries"` // safe, unsafe or unknown; default unknown
	Shaping  []string `yaml:"shaping"`  // type attributes that shape the stream
}

// Selector picks builds by parts; all must match, values are globs.
type Selector map[string]string

// Epoch is a set of builds that write and read one stream.
type Epoch struct {
	Name   string     `yaml:"name"`
	Builds []Selector `yaml:"builds"`
	Source string     `yaml:"source"`
}

// KnownBad is a set of builds that must not take part.
type KnownBad struct {
	Builds []Selector `yaml:"builds"`
	Role   string     `yaml:"role"` // source, target or both (default)
	Reason string     `yaml:"reason"`
	Source string     `yaml:"source"`
}

// Equivalence declares types to be one interface under several names. It
// counts only once a real transfer between the builds has proved it.
type Equivalence struct {
	Types  []FullName `yaml:"types"`
	Source string     `yaml:"source"`
}

// FullName is a type's full name in a catalog.
type FullName struct {
	Namespace string `yaml:"namespace"`
	Name      string `yaml:"name"`
}

// Place is where an attribute is found.
type Place string

const (
	OfType     Place = "type"     // the type's vendor attributes
	OfDevice   Place = "device"   // the instance's vendor attributes
	OfParent   Place = "parent"   // what the driver publishes on the parent
	OfFirmware Place = "firmware" // devlink's versions of the parent
	OfFact     Place = "fact"     // stated by the operator, for the type, the parent or the host
	OfHost     Place = "host"     // kernel.release, kernel.arch, os.id, os.version_id, qemu, libvirt
)

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

func (k *RuleKind) UnmarshalYAML(node ast.Node) error {
	return enum(node, k, "rule", Equal, Superset, AtLeast, AtMost, SemVer, Range, OneOf, Copy, Ignore)
}

func (f *Form) UnmarshalYAML(node ast.Node) error {
	return enum(node, f, "form", Text, Number, List, BitMask)
}

func (p *Place) UnmarshalYAML(node ast.Node) error {
	return enum(node, p, "place", OfType, OfDevice, OfParent, OfFirmware, OfFact, OfHost)
}

func (i *Identity) UnmarshalYAML(node ast.Node) error {
	return enum(node, i, "identity", ByName, ByLabel)
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

// UnmarshalYAML reads unknown, off, or {value: text}.
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
	if err := enum(node, &word, "meaning of absence", "unknown", "off"); err != nil {
		return err
	}
	a.Off = word == "off"
	return nil
}

func (r *Rule) UnmarshalYAML(node ast.Node) error {
	var given struct {
		Attribute string   `yaml:"attribute"`
		Of        Place    `yaml:"of"`
		Types     string   `yaml:"types"`
		Kind      RuleKind `yaml:"rule"`
		Against   string   `yaml:"against"`
		Min       string   `yaml:"min"`
		Max       string   `yaml:"max"`
		Form      Form     `yaml:"as"`
		Absent    Absence  `yaml:"absent"`
		Source    string   `yaml:"source"`
	}
	if err := strictyaml.Node(node, &given); err != nil {
		return err
	}
	*r = Rule{given.Attribute, given.Of, given.Types, given.Kind, given.Against, given.Min, given.Max, given.Form, given.Absent, given.Source, node.GetToken().Position.Line}
	if r.Of == "" {
		r.Of = OfType
	}
	return r.check(node)
}

// check refuses rules that could never do what they say.
func (r *Rule) check(node ast.Node) error {
	bad := func(format string, args ...any) error { return strictyaml.At(node, format, args...) }
	switch {
	case r.Attribute == "":
		return bad("a rule names its attribute")
	case r.Kind == "":
		return bad("the rule for %q does not say how it is compared", r.Attribute)
	case r.Source == "":
		return bad("the rule for %q does not say its source", r.Attribute)
	case (r.Kind == Range) != (r.Min != "" && r.Max != ""):
		return bad("min and max belong to the rule range, and range needs both (%q)", r.Attribute)
	case r.Kind == Range && r.Against != "":
		return bad("range compares with min and max, not with another attribute (%q)", r.Attribute)
	case r.Kind == Copy && r.Of != OfDevice:
		return bad("copy sets an attribute of the device: %q is of the %s", r.Attribute, r.Of)
	case r.Of == OfDevice && r.Against == "" && r.Kind != Copy && r.Kind != Ignore && r.Kind != Range:
		return bad("the target has no device yet: compare %q of the device against an attribute of its type, or copy or ignore it", r.Attribute)
	case r.Form == BitMask && r.Kind != Superset:
		return bad("bits are compared by superset (%q)", r.Attribute)
	case !validGlob(r.Types):
		return bad("%q is not a glob", r.Types)
	}
	return nil
}

// covers reports whether the rule is about the type of that name.
func (r *Rule) covers(name string) bool { return matchGlob(r.Types, name) }

func validGlob(glob string) bool {
	_, err := path.Match(glob, "")
	return err == nil
}

// matchGlob is true for an empty glob.
func matchGlob(glob, text string) bool {
	if glob == "" || glob == "*" {
		return true
	}
	ok, err := path.Match(glob, text)
	return err == nil && ok
}

// ParseCatalog reads one catalog file; name is for messages. Errors carry line
// and column.
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

func (c *Catalog) check() error {
	bad := func(format string, args ...any) error {
		return &strictyaml.Error{Line: 1, Column: 1, Problem: fmt.Sprintf(format, args...)}
	}
	switch {
	case c.Schema != CatalogSchema:
		return bad("schema is %q, this program reads %q", c.Schema, CatalogSchema)
	case len(c.Namespaces) == 0:
		return bad("no namespaces: a catalog says which drivers it is about")
	case !slices.Contains([]string{"", "safe", "unsafe", "unknown"}, c.Proof.Canaries):
		return bad("proof.canaries is %q: it is one of safe, unsafe, unknown", c.Proof.Canaries)
	}
	for i, m := range c.Migration {
		switch {
		case m.Can == "" || m.Source == "":
			return bad("migration[%d] needs can and source", i)
		case !validGlob(m.Namespace) || !validGlob(m.Types):
			return bad("migration[%d] has a malformed glob", i)
		case m.Kernel != "":
			if _, _, ok := parseVersion(m.Kernel); !ok {
				return bad("migration[%d]: kernel-before %q is not major.minor", i, m.Kernel)
			}
		}
	}
	for i, v := range c.Build.Versions {
		if v.Part == "" || v.Source == "" || !slices.Contains([]RuleKind{SemVer, AtLeast, AtMost}, v.Rule) {
			return bad("build.versions[%d] needs a part, a source, and one of the rules semver, at-least, at-most", i)
		}
	}
	for _, p := range c.Build.Parameters {
		if module, param, ok := strings.Cut(p, "/"); !ok || module == "" || param == "" {
			return bad("build.parameters: %q is not <module>/<parameter>", p)
		}
	}
	for i, k := range c.KnownBad {
		if len(k.Builds) == 0 || k.Reason == "" || !slices.Contains([]string{"", "both", "source", "target"}, k.Role) {
			return bad("known-bad[%d] needs builds, a reason, and a role of source, target or both", i)
		}
	}
	for i, e := range c.Epochs {
		if e.Name == "" || len(e.Builds) == 0 {
			return bad("epochs[%d] needs a name and builds", i)
		}
	}
	for i, e := range c.Equivalent {
		if len(e.Types) < 2 {
			return bad("equivalent[%d] names fewer than two types", i)
		}
	}
	return nil
}
