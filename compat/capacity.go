// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"slices"

	"github.com/goccy/go-yaml/ast"

	"kindred/internal/strictyaml"
	"kindred/inventory"
)

// Capacity is how a driver's types share what a parent has: how much room one
// device takes from the others. The kernel's available_instances shrinks for
// all types of a pool and reserves nothing.
type Capacity struct {
	Model CapacityModel `yaml:"model"` // empty: unknown
	Pools []Pool        `yaml:"pools"`
	// OneType says whether a parent has instances of one type at a time.
	OneType inventory.Answer `yaml:"one-type"`
	Source  string           `yaml:"source"`
}

// CapacityModel is the kind of sharing.
type CapacityModel string

const (
	SharedCount     CapacityModel = "shared"   // one number of instances for all types of a parent
	SeparateCounts  CapacityModel = "separate" // a number of instances for each type
	OneInstance     CapacityModel = "one"      // a parent, or a function of it, is one device
	SharedPools     CapacityModel = "pools"    // types take different amounts of one or more pools
	UnknownCapacity CapacityModel = "unknown"  // no source says
)

// Pool is something that instances use up.
type Pool struct {
	Name  string `yaml:"name"`
	Size  int    `yaml:"size"` // in units; 0: it differs, and the kernel's numbers tell it
	Takes []Take `yaml:"takes"`
	Line  int    `yaml:"-"` // where it stands in its file
}

// Take is what one instance of some types takes of a pool.
type Take struct {
	Types string `yaml:"types"` // glob over type names
	Units int    `yaml:"units"`
}

// takes is how many units of the pool one instance of the type takes; ok is
// false when the catalog does not say.
func (p *Pool) takes(name string) (units int, ok bool) {
	for _, t := range p.Takes {
		if matchGlob(t.Types, name) {
			return t.Units, true
		}
	}
	return 0, false
}

// Room is how many more instances of a type a pool of the stated size has room
// for, after the given instances were made; ok is false when the model does
// not say.
func (c *Capacity) Room(name string, made []string) (room int, ok bool) {
	if c.Model != SharedPools {
		return 0, false
	}
	for i := range c.Pools {
		p := &c.Pools[i]
		unit, known := p.takes(name)
		if !known || p.Size == 0 {
			return 0, false
		}
		left := p.Size
		for _, other := range made {
			taken, known := p.takes(other)
			if !known {
				return 0, false
			}
			left -= taken
		}
		if fits := max(left, 0) / unit; i == 0 || fits < room {
			room = fits
		}
	}
	return room, len(c.Pools) > 0
}

func (m *CapacityModel) UnmarshalYAML(node ast.Node) error {
	return enum(node, m, "capacity model", SharedCount, SeparateCounts, OneInstance, SharedPools, UnknownCapacity)
}

func (c *Capacity) UnmarshalYAML(node ast.Node) error {
	type plain Capacity
	if err := strictyaml.Node(node, (*plain)(c)); err != nil {
		return err
	}
	switch {
	case c.Model == "" || c.Source == "":
		return strictyaml.At(node, "a capacity has a model and a source")
	case (c.Model == SharedPools) != (len(c.Pools) > 0):
		return strictyaml.At(node, "pools belong to the model pools, which needs one or more")
	}
	return nil
}

func (p *Pool) UnmarshalYAML(node ast.Node) error {
	type plain Pool
	if err := strictyaml.Node(node, (*plain)(p)); err != nil {
		return err
	}
	p.Line = line(node)
	bad := func(t Take) bool { return t.Units < 1 || t.Units > maxUnits || !validGlob(t.Types) }
	if p.Name == "" || p.Size < 0 || len(p.Takes) == 0 || slices.ContainsFunc(p.Takes, bad) {
		return strictyaml.At(node, "a pool has a name and what one instance takes of it: units, a whole number from 1, for each glob of types")
	}
	return nil
}
