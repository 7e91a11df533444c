// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"slices"

	"kindred/compat"
	"kindred/inventory"
)

// Missing is a proof that would settle what is unknown.
type Missing struct {
	Key     string `json:"key"` // compat.Proof's
	From    Spot   `json:"from"`
	To      Spot   `json:"to"`
	Devices int    `json:"devices"` // how many of the fleet's devices wait for it
	Parents int    `json:"parents"` // how many pairs of parents it settles
}

// Spot is where one end of a proof can be made.
type Spot struct {
	Host   string             `json:"host"`
	Parent string             `json:"parent"`
	Type   inventory.TypeName `json:"type"`
}

func (s *Spot) compare(o *Spot) int {
	return cmp.Or(cmp.Compare(s.Host, o.Host), cmp.Compare(s.Parent, o.Parent), s.Type.Compare(o.Type))
}

// FindMissing lists the smallest set of proofs that settles every pair of a
// device, or a type that is offered, and a parent elsewhere that is unknown for
// want of a proof alone. One proof settles all pairs of the same types, builds
// and shapes in its direction, and no other: so there is one for each of those,
// made where both ends are on one host if there is such a host. What no canary can
// settle is left out: types whose catalog says that canaries are unsafe, or asks
// for a grade that none reaches.
func FindMissing(engine *compat.Engine, inventories []*inventory.Inventory) []Missing {
	m := missing{engine: engine, found: make(map[string]*Missing)}
	for _, inv := range inventories {
		m.offers = append(m.offers, engine.Offers(inv)...)
	}
	for _, o := range m.offers {
		m.source(engine.Instance(o), 0)
	}
	for _, inv := range inventories {
		for k := range inv.Devices {
			if inv.Devices[k].Canary != "" {
				continue // it waits for nothing
			}
			m.source(engine.Source(inv, &inv.Devices[k]), 1)
		}
	}
	list := make([]Missing, 0, len(m.found))
	for _, one := range m.found {
		list = append(list, *one)
	}
	slices.SortFunc(list, func(a, b Missing) int {
		return cmp.Or(cmp.Compare(b.Devices, a.Devices), a.From.compare(&b.From), a.To.compare(&b.To))
	})
	return list
}

type missing struct {
	engine *compat.Engine
	offers []*compat.Offer
	found  map[string]*Missing // by key
}

// source adds what one source waits for.
func (m *missing) source(s *compat.Source, devices int) {
	waits := make(map[string]bool)
	for _, o := range m.offers {
		if o.Host() == s.Host() && o.Parent() == s.Parent() || m.engine.Outcome(s, o) != compat.Unknown {
			continue
		}
		if v := m.engine.Check(s, o); !v.Provable() {
			continue
		}
		if !reachable(m.engine.Policy(s.Type())) || !reachable(m.engine.Policy(o.Type().TypeName)) {
			continue
		}
		about, err := m.engine.About(s, o)
		if err != nil {
			continue // a build that is not known: no proof could be made
		}
		key := about.Key()
		from, to := Spot{s.Host(), s.Parent(), s.Type()}, Spot{o.Host(), o.Parent(), o.Type().TypeName}
		one := m.found[key]
		if one == nil {
			one = &Missing{Key: key, From: from, To: to}
			m.found[key] = one
		}
		near, was := from.Host == to.Host, one.From.Host == one.To.Host
		if near && !was || near == was && cmp.Or(from.compare(&one.From), to.compare(&one.To)) < 0 {
			one.From, one.To = from, to
		}
		if devices == 0 {
			one.Parents++
		}
		waits[key] = true
	}
	for key := range waits {
		m.found[key].Devices += devices
	}
}

// reachable reports whether a canary can reach the grade that counts.
func reachable(p compat.ProofPolicy) bool {
	switch {
	case p.Canaries == compat.CanariesUnsafe, p.Lowest == compat.Observed:
		return false
	case p.Lowest == compat.WorkingState:
		return len(p.Exercise) > 0 && len(p.Observe) > 0
	}
	return true
}
