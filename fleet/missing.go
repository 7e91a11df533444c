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

// Missing lists the smallest set of proofs that settles every pair of a device,
// or a type that is offered, and a parent elsewhere that is unknown for want of a
// proof alone. One proof settles all pairs of the same types, builds and shapes in
// its direction, and no other: so there is one for each of those, made where both
// ends are on one host if there is such a host. What no canary can settle is left
// out: types whose catalog says that canaries are unsafe, or asks for a grade that
// none reaches.
//
// [Fleet.Canaries] asks the same of devices alone, with what they would gain.
func (f *Fleet) Missing() []Missing {
	m := &missing{fleet: f, found: make(map[string]*Missing), offered: make(map[*offer]*places)}
	fresh, held := m.look()
	for _, o := range f.offers {
		if p := m.offered[o]; p != nil {
			m.source(fresh[o], p, true)
		}
	}
	for s, p := range held {
		m.source(s, p, false)
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
	fleet   *Fleet
	offered map[*offer]*places
	found   map[string]*Missing // by key
}

// place is a parent of the hosts of a layout.
type place struct {
	layout *layout
	parent int
}

// places are where offers, or devices, of one class are.
type places struct {
	hosts map[place][2]*host // the first two by name; the second may be nil
	order []place
	many  int // parents, or devices
}

func (p *places) add(at place, h *host, n int) {
	two, ok := p.hosts[at]
	switch {
	case !ok:
		p.order = append(p.order, at)
		two[0] = h
	case h == two[0] || h == two[1]:
	case h.order < two[0].order:
		two[0], two[1] = h, two[0]
	case two[1] == nil || h.order < two[1].order:
		two[1] = h
	}
	p.hosts[at] = two
	p.many += n
}

func newPlaces() *places { return &places{hosts: make(map[place][2]*host)} }

// look finds what is offered where, and where devices are.
func (m *missing) look() (fresh map[*offer]*source, held map[*source]*places) {
	fresh, held = make(map[*offer]*source), make(map[*source]*places)
	for _, c := range m.fleet.cells {
		if c == nil || c.members.size == 0 {
			continue
		}
		at := c.members.start()
		one, _ := at.next()
		two, ok := at.next()
		for i := range c.layout.offers {
			o := &c.layout.offers[i]
			p := m.offered[o.offer]
			if p == nil {
				p = newPlaces()
				m.offered[o.offer] = p
				fresh[o.offer] = m.fleet.kinds.instance(o.offer, c.layout).source
			}
			p.add(place{c.layout, o.parent}, one, c.members.size)
			if ok {
				p.add(place{c.layout, o.parent}, two, 0)
			}
		}
	}
	for h := range m.fleet.hosts.all {
		for i := range h.devices {
			d := &h.devices[i]
			p := held[d.class.source]
			if p == nil {
				p = newPlaces()
				held[d.class.source] = p
			}
			p.add(place{h.layout, d.parent}, h, 1)
		}
	}
	return fresh, held
}

// source adds what devices of one class, or new instances of an offer, wait for.
func (m *missing) source(s *source, at *places, fresh bool) {
	waits := make(map[string][]*offer)
	for o, proof := range m.fleet.proofs(s, func(o *offer) bool { return m.offered[o] != nil }) {
		if reachable(m.fleet.engine.Policy(s.what.Type())) && reachable(m.fleet.engine.Policy(o.what.Type().TypeName)) {
			waits[proof.Key()] = append(waits[proof.Key()], o)
		}
	}
	for key, offers := range waits {
		for _, o := range offers {
			from, to, ok := m.spots(s, at, o)
			if !ok {
				continue // all of it is on one parent
			}
			one := m.found[key]
			if one == nil {
				one = &Missing{Key: key, From: from, To: to}
				m.found[key] = one
			}
			near, was := from.Host == to.Host, one.From.Host == one.To.Host
			if near && !was || near == was && cmp.Or(from.compare(&one.From), to.compare(&one.To)) < 0 {
				one.From, one.To = from, to
			}
			if fresh {
				one.Parents += at.many*m.offered[o].many - m.both(at, o)
			}
		}
		if one := m.found[key]; one != nil && !fresh {
			one.Devices += at.many - m.atHome(s, at, offers)
		}
	}
}

// both counts the parents that have both ends of a pair: none is moved to where
// it is.
func (m *missing) both(at *places, o *offer) (n int) {
	for _, p := range at.order {
		if _, ok := m.offered[o].hosts[p]; ok {
			n += m.fleet.cells[p.layout.id].members.size
		}
	}
	return n
}

// atHome counts the devices on the one parent that makes any of the offers, if
// there is only one: they wait for nothing.
func (m *missing) atHome(s *source, at *places, offers []*offer) (n int) {
	var only place
	var on *host
	for i, o := range offers {
		p := m.offered[o]
		if p.many > 1 || i > 0 && (p.order[0] != only || p.hosts[p.order[0]][0] != on) {
			return 0
		}
		only, on = p.order[0], p.hosts[p.order[0]][0]
	}
	for i := range on.devices {
		if d := &on.devices[i]; d.class.source == s && d.parent == only.parent {
			n++
		}
	}
	return n
}

// spots are the first of both ends: on one host where there is one that has
// both on different parents.
func (m *missing) spots(s *source, at *places, o *offer) (from, to Spot, ok bool) {
	there := m.offered[o]
	better := func(a, b Spot) {
		if !ok || cmp.Or(a.compare(&from), b.compare(&to)) < 0 {
			from, to, ok = a, b, true
		}
	}
	for _, p := range at.order {
		for _, q := range there.order {
			if p.layout == q.layout && p.parent != q.parent {
				h := at.hosts[p][0]
				better(spot(h, p, s.what.Type()), spot(h, q, o.what.Type().TypeName))
			}
		}
	}
	if ok {
		return from, to, true
	}
	for _, p := range at.order {
		for _, h := range at.hosts[p] {
			for _, q := range there.order {
				for _, other := range there.hosts[q] {
					if h != nil && other != nil && h != other {
						better(spot(h, p, s.what.Type()), spot(other, q, o.what.Type().TypeName))
					}
				}
			}
		}
	}
	return from, to, ok
}

func spot(h *host, p place, t inventory.TypeName) Spot {
	return Spot{h.name, p.layout.parents[p.parent].name, t}
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
