// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"iter"
	"math/bits"
	"slices"

	"kindred/compat"
	"kindred/inventory"
)

// Canary is a transfer that would settle unknowns: what a proof is about, and
// hosts to try it on. A pair that waits for a proof waits for this one alone,
// so the canaries of a fleet are the smallest set that settles all.
type Canary struct {
	Key         string             `json:"key"` // of the proof
	SourceType  inventory.TypeName `json:"source_type"`
	TargetType  inventory.TypeName `json:"target_type"`
	SourceBuild string             `json:"source_build"` // for people
	TargetBuild string             `json:"target_build"`
	From        string             `json:"from"` // a host with such a device
	To          string             `json:"to"`   // a host with such an offer
	Canaries    compat.Canaries    `json:"canaries"`
	Devices     int                `json:"devices"` // that would have one more way to go, with room or without
	Frees       int                `json:"frees"`   // stranded ones that could go then
	Enough      bool               `json:"enough"`  // of the fewest that together free all that canaries can free
}

// pending is a canary while it is counted.
type pending struct {
	Canary
	offers map[*offer]bool // that wait for it
}

// Canaries lists what would settle the fleet's unknowns, by the stranded
// devices it frees, then by all devices that it helps.
func (f *Fleet) Canaries() []Canary {
	return f.CanariesOn(func(string) bool { return true })
}

// CanariesOn names for each end a host that is able to make canaries, where
// there is one.
func (f *Fleet) CanariesOn(able func(host string) bool) []Canary {
	r := f.reacher()
	hosts := make(map[*deviceClass]*host) // the first with such a device
	for h := range f.hosts.all {
		if f.ended() {
			break
		}
		for at := range h.devices {
			c := h.devices[at].class
			r.kind(c).number++
			if was := hosts[c]; was == nil || !able(was.name) && able(h.name) {
				hosts[c] = h
			}
		}
	}
	offering := f.offering(able)
	found := make(map[string]*pending)
	keys := make(map[*deviceClass]map[*offer]*pending)
	for _, k := range r.order {
		keys[k.class] = f.waits(k, hosts[k.class], offering, found, able)
	}
	sets := r.freed(keys)
	cover(sets)
	list := make([]Canary, 0, len(found))
	for _, p := range found {
		list = append(list, p.Canary)
	}
	slices.SortFunc(list, func(a, b Canary) int {
		return cmp.Or(cmp.Compare(b.Frees, a.Frees), cmp.Compare(b.Devices, a.Devices), a.SourceType.Compare(b.SourceType), a.TargetType.Compare(b.TargetType), cmp.Compare(a.Key, b.Key))
	})
	return list
}

// nearer is the one of two hosts that is able, else the first by name.
func nearer(able func(string) bool, a, b string) string {
	if x, y := able(a), able(b); x != y {
		if x {
			return a
		}
		return b
	}
	return min(a, b)
}

// offering is, for each offer, the first host that makes it and is able, or the
// first of all.
func (f *Fleet) offering(able func(string) bool) map[*offer]*host {
	hosts := make(map[*offer]*host)
	for _, c := range f.cells {
		if c == nil || c.members.size == 0 {
			continue
		}
		h := first(c)
		for other := range c.members.all {
			if able(other.name) {
				h = other
				break
			}
		}
		for _, o := range c.layout.offers {
			if other := hosts[o.offer]; other == nil || nearer(able, h.name, other.name) == h.name {
				hosts[o.offer] = h
			}
		}
	}
	return hosts
}

// proofs yields the offers that wait for a proof of devices alike, each with what
// it would be about. Offers that nobody makes are left out.
func (f *Fleet) proofs(s *source, made func(*offer) bool) iter.Seq2[*offer, *compat.Proof] {
	return func(yield func(*offer, *compat.Proof) bool) {
		ways := f.kinds.ways(s, f.offers)
		for _, o := range f.offers {
			if w := ways[o.id]; !w.related || w.there != compat.Unknown || !made(o) || !f.kinds.verdict(s, o).Provable() {
				continue
			}
			proof, err := f.engine.About(s.what, o.what)
			if err != nil {
				continue // a build that is not known: no proof can be about it
			}
			if !yield(o, &proof) {
				return
			}
		}
	}
}

// waits finds the offers that wait for a proof about a class of devices.
func (f *Fleet) waits(k *kindReach, from *host, offering map[*offer]*host, found map[string]*pending, able func(string) bool) map[*offer]*pending {
	waits := make(map[*offer]*pending)
	counted := make(map[*pending]bool)
	s := k.class.source
	for o, proof := range f.proofs(s, func(o *offer) bool { return offering[o] != nil }) {
		key := proof.Key()
		p := found[key]
		if p == nil {
			p = &pending{Canary: Canary{
				Key: key, SourceType: proof.SourceType, TargetType: proof.TargetType,
				SourceBuild: s.what.Build().Short(), TargetBuild: o.what.Build().Short(),
				From: from.name, To: offering[o].name, Canaries: f.engine.Policy(proof.TargetType).Canaries,
			}, offers: make(map[*offer]bool)}
			found[key] = p
		}
		if !counted[p] {
			counted[p] = true
			p.Devices += k.number
		}
		p.From, p.To = nearer(able, p.From, from.name), nearer(able, p.To, offering[o].name)
		waits[o] = p
	}
	return waits
}

// stuck is some stranded devices that the same canaries would free, any of
// them.
type stuck struct {
	by      []*pending
	devices int
}

// freed finds for each stranded device the canaries that would give it a host
// that is ready and has room.
func (r *reacher) freed(keys map[*deviceClass]map[*offer]*pending) []*stuck {
	type place struct {
		class *deviceClass
		host  *host
	}
	classes := make(map[*deviceClass]map[*pending]int) // hosts that each would open
	sets := make(map[string]*stuck)
	var order []*stuck
	for h := range r.fleet.hosts.all {
		if r.fleet.ended() {
			break
		}
		seen := make(map[place]*stuck)
		for at := range h.devices {
			c := h.devices[at].class
			k := r.kind(c)
			if len(keys[c]) == 0 || k.hosts[0]-r.ownReady(h, k) > 0 {
				continue
			}
			if s, ok := seen[place{c, h}]; ok {
				if s != nil {
					s.devices++
				}
				continue
			}
			if classes[c] == nil {
				classes[c] = r.opened(c, keys[c])
			}
			own := make(map[*pending]bool)
			if r.ready(c, h.layout) == inventory.Yes {
				for i := range h.layout.offers {
					if p := keys[c][h.layout.offers[i].offer]; p != nil && isFree(h.rooms[i]) {
						own[p] = true
					}
				}
			}
			s := &stuck{}
			for p, n := range classes[c] {
				if own[p] {
					n--
				}
				if n > 0 {
					s.by = append(s.by, p)
				}
			}
			if len(s.by) == 0 {
				seen[place{c, h}] = nil
				continue
			}
			slices.SortFunc(s.by, func(a, b *pending) int { return cmp.Compare(a.Key, b.Key) })
			text := ""
			for _, p := range s.by {
				text += p.Key
			}
			if known := sets[text]; known != nil {
				s = known
			} else {
				sets[text] = s
				order = append(order, s)
			}
			s.devices++
			seen[place{c, h}] = s
		}
	}
	for _, s := range order {
		for _, p := range s.by {
			p.Frees += s.devices
		}
	}
	return order
}

// opened counts for each canary the hosts that it would make ready.
func (r *reacher) opened(c *deviceClass, waits map[*offer]*pending) map[*pending]int {
	n := make(map[*pending]int)
	for _, cell := range r.fleet.cells {
		if cell == nil || r.ready(c, cell.layout) != inventory.Yes {
			continue
		}
		groups := make(map[*pending][]int)
		for i := range cell.layout.slots {
			if p := waits[cell.layout.slots[i].offer]; p != nil {
				groups[p] = append(groups[p], i)
			}
		}
		for p, slots := range groups {
			free, _ := cell.ready(slots)
			n[p] += free
		}
	}
	return n
}

// cover marks the fewest canaries that free every stranded device that any
// frees: exactly where few come into question, else by taking the one that
// frees most until none is left.
func cover(sets []*stuck) {
	var all []*pending
	for _, s := range sets {
		for _, p := range s.by {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	slices.SortFunc(all, func(a, b *pending) int { return cmp.Or(cmp.Compare(b.Frees, a.Frees), cmp.Compare(a.Key, b.Key)) })
	if len(all) <= 16 {
		masks := make([]uint32, len(sets))
		for i, s := range sets {
			for _, p := range s.by {
				masks[i] |= 1 << slices.Index(all, p)
			}
		}
		best := uint32(1)<<len(all) - 1
		for pick := uint32(0); pick < 1<<len(all); pick++ {
			if bits.OnesCount32(pick) < bits.OnesCount32(best) && !slices.ContainsFunc(masks, func(m uint32) bool { return m&pick == 0 }) {
				best = pick
			}
		}
		for i, p := range all {
			p.Enough = best>>i&1 == 1
		}
		return
	}
	for open := slices.Clone(sets); len(open) > 0; {
		gain := make(map[*pending]int)
		for _, s := range open {
			for _, p := range s.by {
				gain[p] += s.devices
			}
		}
		most := slices.MaxFunc(all, func(a, b *pending) int { return cmp.Or(cmp.Compare(gain[a], gain[b]), cmp.Compare(b.Key, a.Key)) })
		most.Enough = true
		open = slices.DeleteFunc(open, func(s *stuck) bool { return slices.Contains(s.by, most) })
	}
}
