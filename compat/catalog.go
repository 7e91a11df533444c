// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"path"
	"slices"

	"kindred/inventory"
)

// CatalogSchema names the shape of a catalog file.
const CatalogSchema SchemaName = "kindred.catalog/v1"

// SchemaName is the schema key of a catalog file.
type SchemaName string

// Catalog is what is known of the drivers of one or more namespaces.
type Catalog struct {
	Schema     SchemaName   `yaml:"schema"`
	Title      string       `yaml:"title"`
	Namespaces []string     `yaml:"namespaces"`
	Identity   Identity     `yaml:"identity"` // what names an interface; default name
	Migration  []Migration  `yaml:"migration"`
	Build      BuildParts   `yaml:"build"`
	Proof      ProofPolicy  `yaml:"proof"`
	Capacity   Capacity     `yaml:"capacity"`
	Rules      []Rule       `yaml:"rules"`
	Epochs     []Epoch      `yaml:"epochs"`
	KnownBad   []KnownBad   `yaml:"known-bad"`
	Equivalent Equivalences `yaml:"equivalent"`
	Examples   Examples     `yaml:"examples"`
	Waivers    []Waiver     `yaml:"waivers"`

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
	Source     string        `yaml:"source"`
}

func (b *BuildParts) empty() bool {
	return len(b.Modules)+len(b.Parameters)+len(b.Firmware)+len(b.Facts) == 0
}

// VersionRule lets builds differ in one part as far as a rule allows.
type VersionRule struct {
	Part   string   `yaml:"part"` // as in Build: firmware:fw, fact:vgpu-manager
	Rule   RuleKind `yaml:"rule"` // semver, at-least, at-most
	Source string   `yaml:"source"`
	Line   int      `yaml:"-"` // where it stands in its file
}

// ProofPolicy is how proofs count for these drivers.
type ProofPolicy struct {
	Lowest   Grade    `yaml:"lowest"`   // the lowest grade that counts; default working-state
	Canaries Canaries `yaml:"canaries"` // default unknown
	Shaping  []string `yaml:"shaping"`  // type attributes that shape the stream
	// Truncated says whether the driver takes a stream that was cut short, so
	// that acceptance alone shows nothing.
	Truncated inventory.Answer `yaml:"takes-truncated"`
	// Exercise is what makes a canary work as a guest would, Observe what a
	// guest then sees of it: a proof compares it on both ends. Without the one
	// a canary shows fresh state only, without the other acceptance is all.
	Exercise []Access `yaml:"exercise"`
	Observe  []Access `yaml:"observe"`
	Source   string   `yaml:"source"`
}

// Access is one access to a region of a device, as a guest makes it.
type Access struct {
	Types  string `yaml:"types" json:"-"`                 // glob over type names; empty: all
	Region int    `yaml:"region" json:"region"`           // by index; a PCI device's BARs are 0 to 5, its config space 7
	At     int64  `yaml:"at" json:"at"`                   // bytes from the region's begin
	Write  Bytes  `yaml:"write" json:"write,omitempty"`   // what is written, for exercise
	Length int    `yaml:"length" json:"length,omitempty"` // how many bytes are read, for observe
}

// Bytes are written in hexadecimal, in the order of their addresses.
type Bytes []byte

// Exercises and Observes are the accesses for types of that name.
func (p *ProofPolicy) Exercises(name string) []Access { return accesses(p.Exercise, name) }
func (p *ProofPolicy) Observes(name string) []Access  { return accesses(p.Observe, name) }

func accesses(list []Access, name string) []Access {
	return slices.DeleteFunc(slices.Clone(list), func(a Access) bool { return !matchGlob(a.Types, name) })
}

// Canaries says whether throw-away devices may be used to try transfers.
type Canaries string

const (
	CanariesSafe    Canaries = "safe"
	CanariesUnsafe  Canaries = "unsafe"
	CanariesUnknown Canaries = "unknown"
)

// Selector picks builds by parts; all must match, values are globs.
type Selector map[string]string

// Epoch is a set of builds that write and read one stream.
type Epoch struct {
	Name   string     `yaml:"name"`
	Builds []Selector `yaml:"builds"`
	Source string     `yaml:"source"`
	Line   int        `yaml:"-"` // where it stands in its file
}

// KnownBad is a set of builds that must not take part.
type KnownBad struct {
	Builds []Selector `yaml:"builds"`
	Role   string     `yaml:"role"` // source, target or both (default)
	Reason string     `yaml:"reason"`
	Source string     `yaml:"source"`
	Line   int        `yaml:"-"` // where it stands in its file
}

// Equivalence declares types to be one interface under several names. It
// counts only once a real transfer between the builds has proved it.
type Equivalence struct {
	Types  []FullName `yaml:"types"`
	Ratio  *Ratio     `yaml:"ratio"` // nil: one instance is one instance
	Source string     `yaml:"source"`
	Line   int        `yaml:"-"` // where it stands in its file
}

// Equivalences are a catalog's declarations. A type is in one of them at most.
type Equivalences []Equivalence

// Ratio says how instances of equivalent types compare in size: a type of more
// units needs a smaller value of the attribute. An instance of U units with the
// value V is an instance of W units with the value U*V/W, if that is whole.
type Ratio struct {
	Attribute string `yaml:"attribute"` // of the device; a rule copies it
	Units     []int  `yaml:"units"`     // of each type, in the order of types
}

// Waiver is a finding of lint that the catalog's author knows of and keeps.
type Waiver struct {
	Code   string `yaml:"code"`
	About  string `yaml:"about"` // glob over what findings are about; empty: all
	Reason string `yaml:"reason"`
	Source string `yaml:"source"`
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
	// OfDescription is the type's description, whose lines or comma separated
	// parts are "name: value" or "name=value". It tells whether a name still
	// means the same, so it is not asked of types declared equivalent.
	OfDescription Place = "description"
	OfFact        Place = "fact" // stated by the operator, for the type, the parent or the host
	OfHost        Place = "host" // kernel.release, kernel.arch, os, os.id, os.version_id, qemu, libvirt
)

// Covers reports whether the rule is about types of that name.
func (r *Rule) Covers(name string) bool { return r.covers(name) }

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
