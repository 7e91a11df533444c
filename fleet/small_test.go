// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"math/rand/v2"

	"kindred/compat"
	"kindred/inventory"
)

// A small fleet, drawn by a seed, for comparing answers with the plain way of
// finding them: a few hosts and types, all capacity models, other builds,
// proofs, readiness, room that is not told, and devices of one owner.

const smallCatalogs = `schema: kindred.catalog/v1
namespaces: [%s]
migration: [{can: "yes", source: test}]
build: {modules: [m]}
%s
rules:
  - {attribute: a, rule: at-least, source: test}
equivalent:
  - {types: [{namespace: %[1]s, name: t}, {namespace: %[1]s, name: v}], source: test}
`

var smallCapacities = []string{
	`capacity: {model: pools, source: test, pools: [{name: x, takes: [{types: t, units: 1}, {types: u, units: 2}, {units: 3}]}]}`,
	`capacity: {model: pools, one-type: "yes", source: test, pools: [{name: x, takes: [{types: t, units: 1}, {units: 2}]}, {name: y, takes: [{types: u, units: 1}, {units: 2}]}]}`,
	`capacity: {model: shared, source: test}`,
	`capacity: {model: separate, source: test}`,
	``,
}

// small is one such fleet.
type small struct {
	r           *rand.Rand
	engine      *compat.Engine
	inventories []*inventory.Inventory
	namespaces  []string
	catalogs    *compat.Catalogs
	proved      *compat.Engine // with the proofs known
	known       []compat.Proof
	alike       bool // hosts differ in little but room
}

func (s *small) chance(n int) bool { return s.r.IntN(n) == 0 }

func newSmall(seed uint64) *small {
	s := &small{r: rand.New(rand.NewPCG(seed, 42)), alike: seed%2 == 1}
	var catalogs []*compat.Catalog
	kinds := 1 + s.r.IntN(2)
	if s.alike {
		kinds = 1
	}
	for i := range kinds {
		name := fmt.Sprint("n", i)
		c, err := compat.ParseCatalog(name, fmt.Appendf(nil, smallCatalogs, name, smallCapacities[s.r.IntN(len(smallCapacities))]))
		if err != nil {
			panic(err)
		}
		catalogs = append(catalogs, c)
		s.namespaces = append(s.namespaces, name)
	}
	for i := range 2 + s.r.IntN(4) {
		s.inventories = append(s.inventories, s.host(i))
	}
	cs, err := compat.NewCatalogs(nil, catalogs)
	if err != nil {
		panic(err)
	}
	s.catalogs, s.known = cs, s.proofs(compat.NewEngine(cs, nil))
	s.engine = compat.NewEngine(cs, s.known)
	s.proved = s.engine
	return s
}

func (s *small) one(texts ...string) string { return texts[s.r.IntN(len(texts))] }

// usual is the first of some texts, and where hosts are unlike any of them.
func (s *small) usual(texts ...string) string {
	if s.alike && !s.chance(12) {
		return texts[0]
	}
	return s.one(texts...)
}

func (s *small) host(i int) *inventory.Inventory {
	inv := &inventory.Inventory{
		Schema: inventory.Schema, Origin: inventory.FromTree, Taken: newHost("00").Taken,
		Host:    inventory.Host{Name: fmt.Sprintf("h%d", i), QEMU: inventory.Of(s.usual("9.0", "9.0", "9.0", "9.0", "9.1")), Libvirt: inventory.Of("10.0")},
		Modules: []inventory.Module{{Name: "m", BuildID: inventory.Of(s.usual("b1", "b1", "b1", "b2", "b3"))}},
	}
	if !s.alike && s.chance(12) {
		inv.Host.QEMU = inventory.None()
	}
	if s.chance(20) {
		inv.ParentsUnread = true
	}
	for p := range 1 + s.r.IntN(3) {
		parent := inventory.Parent{Name: fmt.Sprint("p", p), Kind: inventory.MdevParent, Namespace: s.namespaces[s.r.IntN(len(s.namespaces))]}
		free := s.r.IntN(7)
		for _, name := range []string{"t", "u", "v"} {
			if !s.alike && s.chance(4) {
				continue
			}
			count := free / (1 + s.r.IntN(3))
			typ := newType(name, s.usual("5", "4", "5", "5", "6"), count)
			typ.Namespace = parent.Namespace
			if count == 0 || s.chance(12) {
				typ.Creatable = inventory.No
			}
			if s.chance(12) {
				typ.Available, typ.Creatable = nil, []inventory.Answer{inventory.Yes, inventory.Unknown}[s.r.IntN(2)]
			}
			parent.Types = append(parent.Types, typ)
		}
		inv.Parents = append(inv.Parents, parent)
	}
	for d := range s.r.IntN(5) {
		p := &inv.Parents[s.r.IntN(len(inv.Parents))]
		inv.Devices = append(inv.Devices, inventory.Device{
			ID: fmt.Sprintf("%s-device-%d", inv.Host.Name, d), Kind: inventory.Mdev, Parent: p.Name, InUse: inventory.Yes,
			Type: inventory.TypeName{Namespace: p.Namespace, Name: s.one("t", "t", "u", "v")}, Attributes: inventory.Attributes{Complete: true},
		})
	}
	return inv
}

// proofs are about some of the fleet's pairs.
func (s *small) proofs(e *compat.Engine) []compat.Proof {
	var list []compat.Proof
	for _, a := range s.inventories {
		for i := range a.Devices {
			source := e.Source(a, &a.Devices[i])
			for _, b := range s.inventories {
				for _, o := range e.Offers(b) {
					p, err := e.About(source, o)
					if err != nil || !e.Related(source, o) || !s.chance(6) {
						continue
					}
					p.Grade, p.Result, p.Controls, p.Tries, p.Time = compat.WorkingState, compat.Accepted, true, 2, b.Taken
					if s.chance(4) {
						p.Result = compat.Rejected
					}
					list = append(list, p)
				}
			}
		}
	}
	return list
}

func (s *small) fleet() *Fleet {
	f, err := New(s.engine, s.inventories)
	if err != nil {
		panic(err)
	}
	return f
}
