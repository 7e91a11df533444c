// SPDX-License-Identifier: Apache-2.0

// Package facts reads what no kernel shows, stated by the operator in
// /etc/kindred/facts.d/*.yaml, and attaches it to the host, its parents and
// their types.
//
// A file is a list of statements. Each says which hosts, parents and types it
// is about by glob (left out: the host itself), and sets named values; null
// states that the thing does not exist:
//
//	facts:
//	  - host: "gpu-*"
//	    parent: "0000:41:00.*"
//	    set: {ecc: "on"}
//	  - set: {vgpu-manager: "17.3"}
//
// Files apply in the order of their names, later statements win. A bad file is
// a warning and contributes nothing.
package facts

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"kindred/host/tree"
	"kindred/internal/strictyaml"
	"kindred/inventory"
)

// Dir holds the operator's files.
const Dir = "etc/kindred/facts.d"

// Statement is one entry of a file.
type Statement struct {
	Host   string             `yaml:"host"`
	Parent string             `yaml:"parent"`
	Type   string             `yaml:"type"` // full name
	Set    map[string]*string `yaml:"set"`
}

// Apply reads every file and attaches its facts to inv.
func Apply(d tree.Dir, inv *inventory.Inventory, warn tree.Warn) {
	entries, err := d.ReadDir(Dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			warn(Dir, err)
		}
		return
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name, ".yaml") && !strings.HasSuffix(e.Name, ".yml") {
			continue
		}
		name := path.Join(Dir, e.Name)
		data, err := d.ReadFile(name)
		if err != nil {
			warn(name, err)
			continue
		}
		statements, err := Parse(data)
		if err != nil {
			warn(name, err)
			continue
		}
		for _, s := range statements {
			s.apply(inv, "/"+name)
		}
	}
}

// Parse reads one file.
func Parse(data []byte) ([]Statement, error) {
	var file struct {
		Facts []Statement `yaml:"facts"`
	}
	if err := strictyaml.Decode(data, &file); err != nil {
		return nil, err
	}
	for i, s := range file.Facts {
		for _, glob := range []string{s.Host, s.Parent, s.Type} {
			if _, err := path.Match(glob, ""); err != nil {
				return nil, fmt.Errorf("facts[%d]: %q is not a glob", i, glob)
			}
		}
		if len(s.Set) == 0 {
			return nil, fmt.Errorf("facts[%d]: it sets nothing", i)
		}
	}
	return file.Facts, nil
}

func (s *Statement) apply(inv *inventory.Inventory, source string) {
	if !matches(s.Host, inv.Host.Name) {
		return
	}
	if s.Parent == "" && s.Type == "" {
		s.set(&inv.Host.Facts, source)
		return
	}
	for i := range inv.Parents {
		p := &inv.Parents[i]
		if !matches(s.Parent, p.Name) {
			continue
		}
		if s.Type == "" {
			s.set(&p.Facts, source)
			continue
		}
		for j := range p.Types {
			if matches(s.Type, p.Types[j].Full()) {
				s.set(&p.Types[j].Facts, source)
			}
		}
	}
}

func (s *Statement) set(facts *inventory.Facts, source string) {
	if *facts == nil {
		*facts = make(inventory.Facts)
	}
	for name, text := range s.Set {
		v := inventory.None()
		if text != nil {
			v = inventory.Of(*text)
		}
		(*facts)[name] = inventory.Fact{Value: v, Source: source}
	}
}

// matches is true for an empty glob.
func matches(glob, name string) bool {
	ok, err := path.Match(glob, name)
	return glob == "" || err == nil && ok
}
