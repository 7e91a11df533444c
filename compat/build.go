// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"kindred/inventory"
)

// Build is what decides the stream of one parent's driver, part by part:
// module:<name>, param:<module>/<name>, firmware:<name>, fact:<name>.
type Build struct {
	// ID is a digest over all parts, for comparing and for naming a proof's
	// build; empty while a part could not be read.
	ID      string   `json:"id,omitempty"`
	Parts   []Part   `json:"parts"`
	Missing []string `json:"missing,omitempty"` // parts that could not be read
}

// Part is one part of a build.
type Part struct {
	Name  string          `json:"name"`
	Value inventory.Value `json:"value"`
}

// Short is the build for people: the part that says most, shortened.
func (b *Build) Short() string {
	for _, p := range b.Parts {
		if text, ok := p.Value.Get(); ok && strings.HasPrefix(p.Name, "module:") {
			return strings.TrimPrefix(p.Name, "module:") + " " + text[:min(12, len(text))]
		}
	}
	return b.ID[:min(12, len(b.ID))]
}

// get returns a part of the build, or what the selector language knows besides.
func (b *Build) get(name string) inventory.Value {
	for i := range b.Parts {
		if b.Parts[i].Name == name {
			return b.Parts[i].Value
		}
	}
	return inventory.Value{}
}

// makeBuild puts together the build of a type on a parent as its catalog lists
// it. Without a catalog, or with one that lists nothing, it is every module
// found to take part with all parameters, and all firmware versions.
func makeBuild(c *Catalog, inv *inventory.Inventory, p *inventory.Parent, t *inventory.Type) Build {
	b := builder{inv: inv}
	if c == nil || c.Build.empty() {
		b.everything(p)
	} else {
		for _, name := range c.Build.Modules {
			b.module(name)
		}
		for _, param := range c.Build.Parameters {
			module, name, _ := strings.Cut(param, "/")
			b.parameter(module, name)
		}
		for _, name := range c.Build.Firmware {
			b.add("firmware:"+name, p.Firmware.Get(name))
		}
		for _, name := range c.Build.Facts {
			b.add("fact:"+name, fact(inv, p, t, name))
		}
	}
	slices.SortFunc(b.Parts, func(x, y Part) int { return strings.Compare(x.Name, y.Name) })
	slices.Sort(b.Missing)
	if len(b.Missing) == 0 {
		digest := sha256.New()
		for _, part := range b.Parts {
			fmt.Fprintf(digest, "%q=%d%q\n", part.Name, part.Value.State(), part.Value.Text())
		}
		b.ID = hex.EncodeToString(digest.Sum(nil)[:16])
	}
	return b.Build
}

type builder struct {
	Build
	inv *inventory.Inventory
}

func (b *builder) add(name string, v inventory.Value) {
	b.Parts = append(b.Parts, Part{name, v})
	if v.State() == inventory.NotObserved {
		b.Missing = append(b.Missing, name)
	}
}

// everything is what a build is made of when nobody said what matters.
func (b *builder) everything(p *inventory.Parent) {
	if len(p.Modules) == 0 {
		b.Missing = append(b.Missing, "module:"+p.Namespace)
	}
	for _, name := range p.Modules {
		b.module(name)
		b.parameter(name, "*")
	}
	if !p.Firmware.Complete {
		b.Missing = append(b.Missing, "firmware:*")
	}
	for _, name := range p.Firmware.Unread {
		b.add("firmware:"+name, inventory.Value{})
	}
	for name, v := range p.Firmware.Values {
		b.add("firmware:"+name, v)
	}
}

// module adds a module by its build-id. The source version counts only where
// the module is known to have no build-id: which of the two is compared must
// not depend on what happened to be readable.
func (b *builder) module(name string) {
	m := b.inv.Module(name)
	if m == nil {
		b.add("module:"+name, inventory.Value{})
		return
	}
	v := m.BuildID
	if v.State() == inventory.Absent {
		v = m.SrcVersion
	}
	if v.State() == inventory.Absent {
		v = inventory.Value{} // nothing identifies its code
	}
	b.add("module:"+name, v)
}

func (b *builder) parameter(module, name string) {
	m := b.inv.Module(module)
	if m == nil {
		b.add("param:"+module+"/"+name, inventory.Value{})
		return
	}
	if name != "*" {
		b.add("param:"+module+"/"+name, m.Parameters.Get(name))
		return
	}
	if !m.Parameters.Complete {
		b.Missing = append(b.Missing, "param:"+module+"/*")
	}
	for _, unread := range m.Parameters.Unread {
		b.add("param:"+module+"/"+unread, inventory.Value{})
	}
	for param, v := range m.Parameters.Values {
		b.add("param:"+module+"/"+param, v)
	}
}

// matches reports whether every part the selector names has a matching value.
func (s Selector) matches(b *Build) bool {
	for name, glob := range s {
		text, ok := b.get(name).Get()
		if !ok || !matchGlob(glob, text) {
			return false
		}
	}
	return len(s) > 0
}

func anyMatches(list []Selector, b *Build) bool {
	return slices.ContainsFunc(list, func(s Selector) bool { return s.matches(b) })
}

// fact looks a fact up where it is stated most closely: for the type, for the
// parent, for the host.
func fact(inv *inventory.Inventory, p *inventory.Parent, t *inventory.Type, name string) inventory.Value {
	if t != nil {
		if f, ok := t.Facts[name]; ok {
			return f.Value
		}
	}
	if f, ok := p.Facts[name]; ok {
		return f.Value
	}
	return inv.Host.Facts.Get(name)
}
