// SPDX-License-Identifier: Apache-2.0

// Package diff compares catalogs, or inventories of the same hosts, before and
// after a change of drivers, and says whom the change hurts.
//
// A type is an interface and does not change: under its name it stays what it
// was, or another name is due. What became compatible later is found too,
// since the older type, offered beside the new one, would have served without
// a difference between before and after.
//
// Every [Change] has a stable code and an effect: breaks, unknown, advice or
// note. Like package compat it is pure, and answers come from its engine.
package diff

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Code identifies a kind of change. Codes are stable.
type Code string

const (
	TypeRemoved          Code = "type.removed"
	TypeAdded            Code = "type.added"
	TypeChanged          Code = "type.changed"
	TypeBecameCompatible Code = "type.became-compatible"
	FeatureRemoved       Code = "feature.removed"
	ParentRemoved        Code = "parent.removed"
	DeviceHurt           Code = "device.hurt"
	DeviceUnproven       Code = "device.unproven"
	NamespaceRemoved     Code = "namespace.removed"
	RuleAdded            Code = "rule.added"
	RuleRemoved          Code = "rule.removed"
	RuleStricter         Code = "rule.stricter"
	RuleLooser           Code = "rule.looser"
	MigrationWithdrawn   Code = "migration.withdrawn"
	EquivalenceRemoved   Code = "equivalence.removed"
	EpochRemoved         Code = "epoch.removed"
	BuildBanned          Code = "build.banned"
	BuildRedefined       Code = "build.redefined"
	ProofRaised          Code = "proof.raised"
)

// Effect is what a change does to those who run devices.
type Effect string

const (
	Breaks  Effect = "breaks"  // what was possible is not any more
	Unknown Effect = "unknown" // what was answered is not any more
	Advice  Effect = "advice"  // nothing is hurt; there is a better way
	Note    Effect = "note"
)

type told struct {
	effect  Effect
	meaning string
}

var codes = sync.OnceValue(func() map[Code]told {
	return map[Code]told{
		TypeRemoved:          {Breaks, "a type is not offered any more"},
		TypeAdded:            {Note, "a type is offered now"},
		TypeChanged:          {Breaks, "the interface changed under the same name"},
		TypeBecameCompatible: {Advice, "what was different became compatible later"},
		FeatureRemoved:       {Breaks, "a feature went without a new major version"},
		ParentRemoved:        {Unknown, "a parent is not there any more"},
		DeviceHurt:           {Breaks, "a running device cannot go to a host that it could go to"},
		DeviceUnproven:       {Note, "a running device needs a proof before it goes to the new build"},
		NamespaceRemoved:     {Unknown, "nothing is said of a namespace any more"},
		RuleAdded:            {Note, "an attribute is judged now"},
		RuleRemoved:          {Unknown, "an attribute is not judged any more"},
		RuleStricter:         {Breaks, "a rule refuses what it accepted"},
		RuleLooser:           {Advice, "a rule accepts what it refused"},
		MigrationWithdrawn:   {Breaks, "what could migrate cannot, or nothing says that it can"},
		EquivalenceRemoved:   {Breaks, "types are not declared equivalent any more"},
		EpochRemoved:         {Unknown, "builds are not known any more to share a stream"},
		BuildBanned:          {Breaks, "builds are known to be bad now"},
		BuildRedefined:       {Unknown, "other parts make a build: earlier proofs are about other builds"},
		ProofRaised:          {Unknown, "a higher grade of proof is asked for"},
	}
})

// Codes lists every code, sorted.
func Codes() []Code { return slices.Sorted(maps.Keys(codes())) }

// Meaning is what the code says, in one line.
func (c Code) Meaning() string { return codes()[c].meaning }

// Effect is what changes of this code do.
func (c Code) Effect() Effect { return codes()[c].effect }

// Change is one difference between before and after.
type Change struct {
	Code   Code   `json:"code"`
	Effect Effect `json:"effect"`
	Where  string `json:"where,omitempty"` // host, parent; line of the new catalog
	About  string `json:"about"`
	Reason string `json:"reason"`
	Better string `json:"better,omitempty"`
}

// list collects changes.
type list []Change

func (l *list) add(code Code, where, about, better, reason string, args ...any) {
	*l = append(*l, Change{code, codes()[code].effect, where, about, fmt.Sprintf(reason, args...), better})
}

var weight = map[Effect]int{Breaks: 0, Unknown: 1, Advice: 2, Note: 3}

// sorted is the worst first.
func (l list) sorted() []Change {
	slices.SortFunc(l, func(a, b Change) int {
		return cmp.Or(cmp.Compare(weight[a.Effect], weight[b.Effect]), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Where, b.Where), cmp.Compare(a.About, b.About), cmp.Compare(a.Reason, b.Reason))
	})
	return append([]Change{}, slices.Compact(l)...)
}

// Worst is the worst effect, a note when there is no change.
func Worst(changes []Change) Effect {
	worst := Note
	for _, c := range changes {
		if weight[c.Effect] < weight[worst] {
			worst = c.Effect
		}
	}
	return worst
}
