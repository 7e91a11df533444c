// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"kindred/internal/strictyaml"
	"kindred/inventory"
)

// Examples are a catalog's own tests: devices and targets in short form, and
// what the catalog has to answer about them.
type Examples struct {
	Base  Side      `yaml:"base"` // what every device of the examples is, unless it says otherwise
	Cases []Example `yaml:"cases"`
}

// Example is one device, one target and the answer.
type Example struct {
	Name     string   `yaml:"name"`
	Device   Side     `yaml:"device"`   // as the base, but for this
	Target   Side     `yaml:"target"`   // as the device, but for this
	Contract *Side    `yaml:"contract"` // as the device, but for this; nil: none was recorded
	Proof    *Tried   `yaml:"proof"`    // a transfer between the two that was tried
	Outcome  string   `yaml:"outcome"`
	Codes    []Code   `yaml:"codes"` // findings that the verdict has to have
	Copy     Settings `yaml:"copy"`  // what the verdict sets on the target
	Line     int      `yaml:"-"`     // where it stands in its file
}

// Tried is a proof in an example.
type Tried struct {
	Result Result `yaml:"result"`
	Grade  Grade  `yaml:"grade"`
	// Verified: what a guest sees was compared, and equal.
	Verified bool `yaml:"verified"`
}

// Side is one end of an example: a type on a host, in short form. What it does
// not name is known not to exist, except parts of the build, which both ends
// have alike.
type Side struct {
	Namespace   string               `yaml:"namespace"` // the catalog's first, when left out
	Type        string               `yaml:"type"`      // the type's name
	Kind        inventory.ParentKind `yaml:"kind"`      // mdev when left out
	Label       *string              `yaml:"label"`
	API         string               `yaml:"api"` // vfio-pci when left out
	Description *string              `yaml:"description"`
	Migration   inventory.Answer     `yaml:"migration"`  // as observed; left out: nothing was
	Attributes  Settings             `yaml:"attributes"` // of the type
	Instance    Settings             `yaml:"instance"`   // of the device
	Parent      Settings             `yaml:"parent"`
	Firmware    Settings             `yaml:"firmware"`
	Facts       Settings             `yaml:"facts"`
	Modules     Settings             `yaml:"modules"`    // build-ids
	Parameters  Settings             `yaml:"parameters"` // <module>/<parameter>
	Host        Settings             `yaml:"host"`       // what rules can ask of a host
	Unobserved  []string             `yaml:"unobserved"` // <place>:<name>, and module:<name>
}

// Settings are attributes by name; null is known absent.
type Settings map[string]inventory.Value

// UnmarshalYAML takes scalars as they are written: 0x10 stays 0x10.
func (s *Settings) UnmarshalYAML(node ast.Node) error {
	var entries []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		entries = n.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{n}
	default:
		return strictyaml.At(node, "a mapping of names to values is expected")
	}
	*s = make(Settings, len(entries))
	for _, e := range entries {
		name := e.Key.GetToken().Value
		if _, twice := (*s)[name]; twice {
			return strictyaml.At(e.Key, "%q is set twice", name)
		}
		switch v := e.Value.(type) {
		case *ast.NullNode:
			(*s)[name] = inventory.None()
		case *ast.LiteralNode:
			(*s)[name] = inventory.Of(v.Value.Value)
		case ast.ScalarNode:
			(*s)[name] = inventory.Of(v.GetToken().Value)
		default:
			return strictyaml.At(e.Value, "the value of %q is text, or null for known absent", name)
		}
	}
	return nil
}

var unobservable = []string{"type", "device", "parent", "firmware", "fact", "host", "module", "param", "migration", "description", "label", "api"}

func (s *Side) UnmarshalYAML(node ast.Node) error {
	type plain Side
	if err := strictyaml.Node(node, (*plain)(s)); err != nil {
		return placed(node, err)
	}
	switch s.Kind {
	case "", inventory.MdevParent, inventory.FunctionParent, inventory.VGPUParent:
	default:
		return strictyaml.At(node, "unknown kind %q: it is one of mdev, function, vgpu", s.Kind)
	}
	for name := range s.Host {
		if !slices.Contains(hostAttributes, name) || name == "os" {
			return strictyaml.At(node, "a host has no attribute %q to set", name)
		}
	}
	for name := range s.Parameters {
		if module, param, ok := strings.Cut(name, "/"); !ok || module == "" || param == "" {
			return strictyaml.At(node, "parameter %q is not <module>/<parameter>", name)
		}
	}
	for _, u := range s.Unobserved {
		place, _, _ := strings.Cut(u, ":")
		if !slices.Contains(unobservable, place) {
			return strictyaml.At(node, "%q is not <place>:<name>, with a place of %s", u, strings.Join(unobservable, ", "))
		}
	}
	return nil
}

func (e *Example) UnmarshalYAML(node ast.Node) error {
	type plain Example
	if err := strictyaml.Node(node, (*plain)(e)); err != nil {
		return err
	}
	e.Line = line(node)
	var outcome Outcome
	if err := outcome.UnmarshalText([]byte(e.Outcome)); err != nil {
		return strictyaml.At(node, "outcome %v", err)
	}
	if e.Name == "" {
		return strictyaml.At(node, "an example says in its name what it shows")
	}
	for _, c := range e.Codes {
		if _, known := codes()[c]; !known {
			return strictyaml.At(node, "there is no code %q; kindred reason lists them", c)
		}
	}
	return nil
}

func (t *Tried) UnmarshalYAML(node ast.Node) error {
	type plain Tried
	if err := strictyaml.Node(node, (*plain)(t)); err != nil {
		return err
	}
	if !slices.Contains([]Result{Accepted, Rejected, Inconclusive}, t.Result) || t.Grade == 0 {
		return strictyaml.At(node, "a proof has a result (accepted, rejected, inconclusive) and a grade")
	}
	return nil
}

// over is the side with what another one says put over it.
func (s Side) over(base Side) Side {
	text := func(a, b string) string {
		if a != "" {
			return a
		}
		return b
	}
	merge := func(a, b Settings) Settings {
		m := make(Settings, len(a)+len(b))
		for name, v := range b {
			m[name] = v
		}
		for name, v := range a {
			m[name] = v
		}
		return m
	}
	out := Side{
		Namespace: text(s.Namespace, base.Namespace), Type: text(s.Type, base.Type),
		Kind: inventory.ParentKind(text(string(s.Kind), string(base.Kind))), API: text(s.API, base.API),
		Migration: inventory.Answer(text(string(s.Migration), string(base.Migration))),
		Label:     s.Label, Description: s.Description,
		Attributes: merge(s.Attributes, base.Attributes), Instance: merge(s.Instance, base.Instance),
		Parent: merge(s.Parent, base.Parent), Firmware: merge(s.Firmware, base.Firmware), Facts: merge(s.Facts, base.Facts),
		Modules: merge(s.Modules, base.Modules), Parameters: merge(s.Parameters, base.Parameters), Host: merge(s.Host, base.Host),
		Unobserved: slices.Concat(base.Unobserved, s.Unobserved),
	}
	if out.Label == nil {
		out.Label = base.Label
	}
	if out.Description == nil {
		out.Description = base.Description
	}
	return out
}
