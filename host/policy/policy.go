// SPDX-License-Identifier: Apache-2.0

// Package policy reads what a host's operator lets Kindred do on it, beyond
// looking: /etc/kindred/policy.yaml. Without the file nothing is allowed.
//
//	canaries:                        # throw-away devices, to prove transfers
//	  - parent: "0000:41:00.*"       # glob
//	    type: "acme_gpu-*"           # glob over full names; left out: all
//	manage:                          # devices that the fleet's claims and migrations may make and remove
//	  - parent: "0000:41:00.*"
//
// A file that cannot be read is an error, not an empty policy: the operator
// must learn of it.
package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"kindred/host/tree"
	"kindred/internal/strictyaml"
	"kindred/inventory"
)

// File is the policy's name below the root.
const File = "etc/kindred/policy.yaml"

// Policy is what the operator allows.
type Policy struct {
	Canaries []Scope `yaml:"canaries"`
	Manage   []Scope `yaml:"manage"`
}

// Scope is a set of parents and types.
type Scope struct {
	Parent string `yaml:"parent"`
	Type   string `yaml:"type"`
}

// Read reads the host's policy.
func Read(d tree.Dir) (*Policy, error) {
	data, err := d.ReadFile(File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return new(Policy), nil
	case err != nil:
		return nil, fmt.Errorf("policy: %w", err)
	}
	p, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("policy /%s: %w", File, err)
	}
	return p, nil
}

// Parse reads a policy's text.
func Parse(data []byte) (*Policy, error) {
	p := new(Policy)
	if err := strictyaml.Decode(data, p); err != nil {
		return nil, err
	}
	for name, scopes := range map[string][]Scope{"canaries": p.Canaries, "manage": p.Manage} {
		if err := check(name, scopes); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func check(name string, scopes []Scope) error {
	for i, s := range scopes {
		if s.Parent == "" {
			return fmt.Errorf(`%s[%d]: it names no parent; "*" is all of them`, name, i)
		}
		for _, glob := range []string{s.Parent, s.Type} {
			if _, err := path.Match(glob, ""); err != nil {
				return fmt.Errorf("%s[%d]: %q is not a glob", name, i, glob)
			}
		}
	}
	return nil
}

// Canary reports whether canaries of the type may be made on the parent.
func (p *Policy) Canary(parent string, t inventory.TypeName) bool {
	return covers(p.Canaries, parent, t)
}

// Managed reports whether devices of the type may be made and removed on the
// parent for the fleet's claims and migrations.
func (p *Policy) Managed(parent string, t inventory.TypeName) bool {
	return covers(p.Manage, parent, t)
}

func covers(scopes []Scope, parent string, t inventory.TypeName) bool {
	return slices.ContainsFunc(scopes, func(s Scope) bool {
		return match(s.Parent, parent) && (s.Type == "" || match(s.Type, t.Full()))
	})
}

func match(glob, text string) bool {
	ok, err := path.Match(glob, text)
	return ok && err == nil
}
