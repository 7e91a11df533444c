// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"slices"

	"kindred/compat"
	"kindred/inventory"
)

// The plain way to answer: every device against every offer by the engine,
// every assignment tried, nothing kept. It shares no code with the index but
// the conditions of a move.

type plainOffer struct {
	parent  *inventory.Parent
	typ     *inventory.Type
	offer   *compat.Offer
	verdict compat.Verdict
	free    bool
	full    bool
	count   int // -1: not told
	certain int
}

// plainOffers judges a device against every offer of a host.
func plainOffers(e *compat.Engine, s *compat.Source, to *inventory.Inventory) []plainOffer {
	var list []plainOffer
	for _, o := range e.Offers(to) {
		p := plainOffer{parent: to.Parent(o.Parent()), typ: o.Type(), offer: o, verdict: e.Check(s, o), count: -1}
		n := o.Type().Available
		if n != nil {
			p.count = *n
		}
		switch {
		case o.Type().Creatable == inventory.No || n != nil && *n == 0:
			p.full = true
		case n != nil || o.Type().Creatable == inventory.Yes:
			p.free, p.certain = true, max(p.count, 1)
		}
		list = append(list, p)
	}
	return list
}

func plainReady(from, to *inventory.Inventory) inventory.Answer {
	return met([]Condition{
		manager(ReadyQEMU, "QEMU", oldestQEMU, from.Host.QEMU, to.Host.QEMU),
		manager(ReadyLibvirt, "libvirt", oldestLibvirt, from.Host.Libvirt, to.Host.Libvirt),
	})
}

// group is the offer's group on a host that is ready, or not.
func (p *plainOffer) group(ready inventory.Answer) Group {
	switch {
	case p.verdict.Outcome == compat.Incompatible || ready == inventory.No:
		return NotAllowed
	case p.verdict.Outcome == compat.Unknown || ready == inventory.Unknown:
		return Unsettled
	case p.full:
		return Full
	case !p.free:
		return Unsettled
	}
	return Ready
}

// plainKey is the policy's: lower first.
func plainKey(policy Policy, p *plainOffer) [2]int {
	room := -p.count
	switch policy {
	case Pack:
		if room = p.count; p.count < 0 {
			room = 1 << 30
		}
		return [2]int{0, room}
	case Spread:
		return [2]int{0, room}
	case ProvenFirst:
		first := 2
		for _, f := range p.verdict.Findings {
			switch f.Code {
			case compat.ProofAccepted:
				return [2]int{0, room}
			case compat.BuildEqual:
				first = 1
			}
		}
		return [2]int{first, room}
	case OldestFirst:
		return [2]int{len(p.parent.Types), room}
	}
	return [2]int{}
}

// plainTarget is the answer for one host.
type plainTarget struct {
	host, parent string
	typ          inventory.TypeName
	group        Group
	key          [2]int
	back         compat.Outcome
	any          bool // some type came into question
}

func plainTargetOf(e *compat.Engine, from *inventory.Inventory, d *inventory.Device, to *inventory.Inventory, policy Policy) plainTarget {
	s := e.Source(from, d)
	ready := plainReady(from, to)
	t := plainTarget{host: to.Host.Name, group: NotAllowed}
	offers := slices.DeleteFunc(plainOffers(e, s, to), func(p plainOffer) bool { return different(&p.verdict) })
	if len(offers) == 0 {
		if compat.NotOffered(s, to).Outcome == compat.Unknown {
			t.group = Unsettled
		}
		return t
	}
	best := slices.MinFunc(offers, func(a, b plainOffer) int {
		ga, gb := a.group(ready), b.group(ready)
		var ka, kb [2]int
		if ga == Ready && gb == Ready {
			ka, kb = plainKey(policy, &a), plainKey(policy, &b)
		}
		return cmp.Or(
			cmp.Compare(slices.Index(Groups, ga), slices.Index(Groups, gb)), cmp.Compare(a.verdict.Outcome, b.verdict.Outcome), slices.Compare(ka[:], kb[:]),
			cmp.Compare(b.count, a.count), cmp.Compare(a.parent.Name, b.parent.Name), a.typ.Compare(b.typ.TypeName),
		)
	})
	t.any, t.parent, t.typ, t.group = true, best.parent.Name, best.typ.TypeName, best.group(ready)
	if t.group == Ready {
		t.key = plainKey(policy, &best)
	}
	t.back = compat.Unknown
	if home := e.Home(s); home != nil && best.verdict.Outcome != compat.Incompatible {
		t.back = e.Outcome(e.Arrived(s, best.offer), home)
	}
	return t
}

// plainRoom is whether a parent has room for so many of each of its types, as
// docs/scale.md says it.
func plainRoom(c *compat.Capacity, p *inventory.Parent, counts, wanted []int) bool {
	kinds, all := 0, 0
	for i, n := range wanted {
		if n > counts[i] {
			return false
		}
		if all += n; n > 0 {
			kinds++
		}
	}
	if c != nil && c.OneType == inventory.Yes && kinds > 1 {
		return false
	}
	if c != nil && c.Model == compat.SeparateCounts {
		return true
	}
	if c != nil && c.Model == compat.SharedPools {
		for _, pool := range c.Pools {
			units := func(name string) int {
				for _, take := range pool.Takes {
					if take.Types == "" || take.Types == name {
						return take.Units
					}
				}
				panic("the test's pools name every type")
			}
			left, used := 0, 0
			for i := range p.Types {
				left = max(left, counts[i]*units(p.Types[i].Name))
				used += wanted[i] * units(p.Types[i].Name)
			}
			if used > left {
				return false
			}
		}
		return true
	}
	for i, n := range wanted {
		if n > 0 && all > counts[i] {
			return false
		}
	}
	return true
}

// plainPlace is a parent and a type on it.
type plainPlace struct{ parent, typ int }

// plainFits tries every assignment of devices to a host's free offers; have is
// what is placed there already.
func plainFits(e *compat.Engine, to *inventory.Inventory, choices [][]plainPlace) bool {
	counts := make([][]int, len(to.Parents))
	wanted := make([][]int, len(to.Parents))
	for i := range to.Parents {
		for j := range to.Parents[i].Types {
			t := &to.Parents[i].Types[j]
			n := 0
			if t.Creatable != inventory.No && t.Available != nil {
				n = *t.Available
			} else if t.Creatable == inventory.Yes {
				n = 1
			}
			counts[i] = append(counts[i], n)
		}
		wanted[i] = make([]int, len(counts[i]))
	}
	var try func(n int) bool
	try = func(n int) bool {
		if n == len(choices) {
			for i := range to.Parents {
				if !plainRoom(e.Capacity(to.Parents[i].Namespace), &to.Parents[i], counts[i], wanted[i]) {
					return false
				}
			}
			return true
		}
		for _, c := range choices[n] {
			if wanted[c.parent][c.typ] == counts[c.parent][c.typ] {
				continue
			}
			wanted[c.parent][c.typ]++
			if try(n + 1) {
				wanted[c.parent][c.typ]--
				return true
			}
			wanted[c.parent][c.typ]--
		}
		return false
	}
	return try(0)
}

// plainChoices are the compatible, free places of a host for a device; proven
// leaves out what no transfer proved.
func plainChoices(e *compat.Engine, from *inventory.Inventory, d *inventory.Device, to *inventory.Inventory, proven bool) []plainPlace {
	var list []plainPlace
	for _, p := range plainOffers(e, e.Source(from, d), to) {
		if p.group(plainReady(from, to)) != Ready || proven && plainKey(ProvenFirst, &p)[0] != 0 {
			continue
		}
		i := slices.IndexFunc(to.Parents, func(q inventory.Parent) bool { return q.Name == p.parent.Name })
		j := slices.IndexFunc(p.parent.Types, func(t inventory.Type) bool { return t.TypeName == p.typ.TypeName })
		list = append(list, plainPlace{i, j})
	}
	return list
}
