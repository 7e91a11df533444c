// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"fmt"
	"slices"

	"kindred/compat"
	"kindred/inventory"
)

// Choices is the answer to "which type keeps a new VM most movable": every type
// that could be created now, most movable first.
type Choices struct {
	Simulated bool     `json:"simulated,omitempty"` // some of these hosts do not exist
	Silent    int      `json:"silent,omitempty"`    // hosts that do not report; they are left out
	Types     []Choice `json:"types"`
}

// Choice is one type, and what it would cost to choose it.
type Choice struct {
	Type   inventory.TypeName `json:"type"`
	Label  inventory.Value    `json:"label,omitzero"`
	Create int                `json:"create"`          // hosts that could create one now
	Room   int                `json:"room"`            // how many there is room for
	Reach  int                `json:"reach"`           // hosts that could take it later, from where it reaches furthest
	Least  int                `json:"least"`           // the same from where it reaches least
	Lost   int                `json:"lost"`            // hosts fewer than the most movable type reaches
	Takes  map[string]int     `json:"takes,omitempty"` // of each pool of its parent, where the catalog says so
	Begin  []Begin            `json:"begin"`           // where to create it, most movable first
}

// Begin is a group of parents, alike to the type, to create it on.
type Begin struct {
	Build string `json:"build"` // of the drivers there, for people
	Hosts int    `json:"hosts"` // that could create one now
	Room  int    `json:"room"`
	Reach int    `json:"reach"` // other hosts that could take it later
	Ways  []Way  `json:"ways"`

	key string // for the order of equals
}

// begin is one group while it is counted.
type begin struct {
	Begin
	most, least int // of the hosts that it reaches, from any of its own
}

// Choices answers for every type, as if one more was created.
func (f *Fleet) Choices() *Choices {
	r := f.reacher()
	types := make(map[inventory.TypeName]*Choice)
	groups := make(map[inventory.TypeName]map[*deviceClass]*begin)
	for _, c := range f.cells {
		if c == nil || c.members.size == 0 {
			continue
		}
		byType := make(map[inventory.TypeName][]int) // slots
		for i := range c.layout.offers {
			o := &c.layout.offers[i]
			name := o.typ.TypeName
			if slices.Contains(byType[name], o.slot) {
				continue
			}
			byType[name] = append(byType[name], o.slot)
			if types[name] == nil {
				p := &c.layout.parents[o.parent]
				types[name] = &Choice{Type: name, Label: o.typ.Label, Takes: p.sharing.Takes(i - p.first)}
				groups[name] = make(map[*deviceClass]*begin)
			}
		}
		for name, all := range byType {
			create, _ := c.ready(all)
			types[name].Create += create
			for i, s := range all {
				o := c.layout.slots[s].offer
				if slices.ContainsFunc(all[:i], func(before int) bool { return c.layout.slots[before].offer == o }) {
					continue
				}
				r.begin(c, o, slots(c.layout, all, o), groups[name])
			}
		}
	}
	answer := &Choices{Simulated: f.simulated > 0, Types: []Choice{}}
	for name, t := range types {
		if t.Create == 0 {
			continue
		}
		t.Least = -1
		for _, g := range groups[name] {
			t.Room += g.Room
			t.Reach = max(t.Reach, g.most)
			if t.Least < 0 || g.least < t.Least {
				t.Least = g.least
			}
			t.Begin = append(t.Begin, g.Begin)
		}
		slices.SortFunc(t.Begin, func(a, b Begin) int {
			return cmp.Or(cmp.Compare(b.Reach, a.Reach), cmp.Compare(b.Hosts, a.Hosts), cmp.Compare(b.Room, a.Room), cmp.Compare(a.key, b.key))
		})
		answer.Types = append(answer.Types, *t)
	}
	slices.SortFunc(answer.Types, func(a, b Choice) int {
		return cmp.Or(cmp.Compare(b.Reach, a.Reach), cmp.Compare(b.Room, a.Room), a.Type.Compare(b.Type))
	})
	for i := range answer.Types {
		answer.Types[i].Lost = answer.Types[0].Reach - answer.Types[i].Reach
	}
	return answer
}

// begin counts the hosts of a cell that could create an offer, and how far a
// new instance of it reaches from there. Its own host does not count: where the
// offer takes its own kind, that is one less everywhere; else each host is
// looked at.
func (r *reacher) begin(c *cell, o *offer, slots []int, groups map[*deviceClass]*begin) {
	hosts, _ := c.ready(slots)
	if hosts == 0 {
		return
	}
	class := r.fleet.kinds.instance(o, c.layout)
	k := r.kind(class)
	g := groups[class]
	if g == nil {
		g = &begin{least: k.hosts[0]}
		g.Build, g.Ways = o.what.Build().Short(), k.ways
		g.key = fmt.Sprintf("%s %v %v", o.class, class.qemu, class.libvirt)
		groups[class] = g
	}
	g.Hosts += hosts
	for _, s := range slots {
		g.Room += c.slots[s].room
	}
	count := func(reach int) {
		g.most, g.least = max(g.most, reach), min(g.least, reach)
		g.Reach = g.most
	}
	if r.ready(class, c.layout) == inventory.Yes && r.fleet.kinds.ways(class.source, r.fleet.offers)[o.id].there == compat.Compatible {
		count(k.hosts[0] - 1)
		return
	}
	for h := range c.members.all {
		free := false
		for i := range c.layout.offers {
			free = free || c.layout.offers[i].offer == o && isFree(h.rooms[i])
		}
		if free {
			count(k.hosts[0] - r.ownReady(h, k))
		}
	}
}
