// SPDX-License-Identifier: Apache-2.0

// Package lint looks at catalogs and inventories for what makes types hard to
// migrate: names that split one interface or hide what it is, versions that
// nobody can compare, attributes that nobody judges, rules that decide nothing.
//
// Every [Finding] has a stable code, a place, a reason and a better form. Lint
// speaks up only where it can show harm: two names for generations of hardware
// are right where the interfaces differ, and it says nothing then. A catalog
// can waive a finding with a reason and a source; it is still listed.
//
// Like package compat it is pure: no I/O, no clock, and the order of the input
// does not matter.
package lint

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"

	"kindred/compat"
	"kindred/inventory"
)

// Code identifies a kind of finding. Codes are stable.
type Code string

const (
	NameGeneration      Code = "name.generation"
	NamePrefix          Code = "name.prefix"
	NameMeaningless     Code = "name.meaningless"
	NamespaceSplit      Code = "namespace.split"
	NamespaceCollision  Code = "namespace.collision"
	TypeVaries          Code = "type.varies"
	TypeDuplicate       Code = "type.duplicate"
	VersionUnparsable   Code = "version.unparsable"
	RuleMissing         Code = "rule.missing"
	RuleNever           Code = "rule.never"
	RuleAlways          Code = "rule.always"
	EquivalenceUnproven Code = "equivalence.unproven"
)

var meanings = sync.OnceValue(func() map[Code]string {
	return map[Code]string{
		NameGeneration:      "a generation or version in a type's name, where both generations are one interface",
		NamePrefix:          "a namespace that any vendor could have",
		NameMeaningless:     "a name that says nothing, where something says what the type is",
		NamespaceSplit:      "one interface in a namespace for each generation",
		NamespaceCollision:  "namespaces whose full names collide",
		TypeVaries:          "one full name, several interfaces",
		TypeDuplicate:       "one interface under two names",
		VersionUnparsable:   "a version that cannot be compared",
		RuleMissing:         "an attribute that no rule judges",
		RuleNever:           "something that can never pass or apply",
		RuleAlways:          "something that always passes",
		EquivalenceUnproven: "types declared equivalent that no transfer proved",
	}
})

// Codes lists every code, sorted.
func Codes() []Code { return slices.Sorted(maps.Keys(meanings())) }

// Meaning is what the code says, in one line.
func (c Code) Meaning() string { return meanings()[c] }

// Finding is one thing that could be better.
type Finding struct {
	Code   Code   `json:"code"`
	Place  string `json:"place"`          // file:line of a catalog; host, parent of an inventory
	More   int    `json:"more,omitempty"` // further places with the same finding
	About  string `json:"about"`          // the type, namespace or attribute
	Reason string `json:"reason"`
	Better string `json:"better"`
	Waived string `json:"waived,omitempty"` // why the catalog keeps it so, and its source

	namespace string
}

// Input is what is looked at. Known is what applies besides: built-in and site
// catalogs, whose rules judge the inventories and whose waivers count.
type Input struct {
	Catalogs    []*compat.Catalog
	Inventories []*inventory.Inventory
	Proofs      []compat.Proof
	Known       *compat.Catalogs
}

// Run lists findings by place, code and what they are about. One that holds in
// several places is listed once.
func Run(in Input) []Finding {
	l := &linter{Input: in}
	for _, c := range in.Catalogs {
		l.catalog(c)
	}
	l.namespaces()
	l.offers()
	l.observedRules()
	slices.SortFunc(l.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.About, b.About), cmp.Compare(a.Better, b.Better), cmp.Compare(a.Place, b.Place), cmp.Compare(a.Reason, b.Reason))
	})
	var once []Finding
	last := "" // the place of the finding before
	for _, f := range l.findings {
		k := len(once) - 1
		if k < 0 || once[k].Code != f.Code || once[k].About != f.About || once[k].Better != f.Better || once[k].Waived != f.Waived {
			once = append(once, f)
		} else if f.Place != last {
			once[k].More++
		}
		last = f.Place
	}
	slices.SortFunc(once, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Place, b.Place), cmp.Compare(a.Code, b.Code), cmp.Compare(a.About, b.About), cmp.Compare(a.Reason, b.Reason))
	})
	return once
}

// Open counts the findings that nothing waives.
func Open(findings []Finding) (n int) {
	for _, f := range findings {
		if f.Waived == "" {
			n++
		}
	}
	return n
}

type linter struct {
	Input
	findings []Finding
}

func (l *linter) add(c *compat.Catalog, f Finding) {
	if c == nil && l.Known != nil {
		c = l.Known.For(f.namespace)
	}
	if c != nil {
		for _, w := range c.Waivers {
			if ok, err := path.Match(w.About, f.About); w.Code == string(f.Code) && (w.About == "" || err == nil && ok) {
				f.Waived = w.Reason + " (" + w.Source + ")"
				break
			}
		}
	}
	l.findings = append(l.findings, f)
}

func at(c *compat.Catalog, line int) string { return fmt.Sprintf("%s:%d", c.Name, max(line, 1)) }
