// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"slices"

	"kindred/compat"
	"kindred/inventory"
)

// jobKind is owners whose devices are alike: what takes one takes the other.
type jobKind struct {
	number  int
	classes []*deviceClass // of the devices
	jobs    []*job
	wishes  map[*layout][]wish // nil where a device has no offer
	hosts   int                // that the scarcest device could go to
	scarce  int                // which device that is
	size    int                // the least that one owner takes of a host's pools, in units
	more    *queue             // hosts not looked at yet
	live    []*host            // hosts that may have room for one more
	told    bool               // the next two are known
	taking  int                // hosts with room for the scarcest device
	alone   []*host            // hosts that could take one owner and nothing else
}

// layoutWishes are the offers of a layout for each device of a kind, nil where
// one has none, or the host is not ready for the move.
func (p *packing) layoutWishes(k *jobKind, l *layout) []wish {
	if list, ok := k.wishes[l]; ok {
		return list
	}
	list := make([]wish, 0, len(k.classes))
	for _, c := range k.classes {
		w := wish{class: c}
		if p.met.ready(c, l) == inventory.Yes {
			ways := p.fleet.kinds.ways(c.source, p.fleet.offers)
			for i := range l.offers {
				if o := l.offers[i].offer; ways[o.id].there == compat.Compatible && p.allows(c, o) {
					w.offers = append(w.offers, i)
				}
			}
		}
		if len(w.offers) == 0 {
			list = nil
			break
		}
		list = append(list, w)
	}
	k.wishes[l] = list
	return list
}

// allows reports whether a compatible pair may be used.
func (p *packing) allows(c *deviceClass, o *offer) bool {
	return !p.opts.Proven || p.fleet.kinds.judged(c.source, o).evidence == 0
}

// wishes are those of a kind on one host, the policy's best offers first.
func (p *packing) wishes(k *jobKind, h *host) []wish {
	list := p.layoutWishes(k, h.layout)
	if p.opts.Policy == ByName {
		return list
	}
	ordered := slices.Clone(list)
	for i := range ordered {
		if len(list[i].offers) > 1 {
			ordered[i] = p.fleet.wish(h, list[i].class, &view{good: list[i].offers}, p.opts.Policy)
		}
	}
	return ordered
}

// takes reports whether any host, full or not, takes a kind.
func (p *packing) takes(k *jobKind) bool {
	for _, c := range p.fleet.cells {
		if c == nil || p.layoutWishes(k, c.layout) == nil {
			continue
		}
		for h := range c.members.all {
			if !p.barred[h] {
				return true
			}
		}
	}
	return false
}

// survey finds a kind's scarcest device and how many hosts it could go to, and
// its size.
func (p *packing) survey(k *jobKind) {
	k.hosts, k.size = -1, 0
	for _, c := range p.fleet.cells {
		if c == nil {
			continue
		}
		if n := units(c.layout, p.layoutWishes(k, c.layout)); n > 0 && (k.size == 0 || n < k.size) {
			k.size = n
		}
	}
	for d := range k.classes {
		n := 0
		for _, c := range p.fleet.cells {
			if c == nil {
				continue
			}
			if list := p.layoutWishes(k, c.layout); list != nil {
				free, _ := c.ready(wishSlots(c.layout, &list[d]))
				n += free
			}
		}
		if k.hosts < 0 || n < k.hosts {
			k.hosts, k.scarce = n, d
		}
	}
	k.hosts = max(k.hosts, 0)
}

func wishSlots(l *layout, w *wish) []int {
	var list []int
	for _, i := range w.offers {
		if s := l.offers[i].slot; !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	slices.Sort(list)
	return list
}

// candidates are the hosts that have room for the scarcest device of a kind,
// the policy's best first.
func (p *packing) candidates(k *jobKind) *queue {
	q := &queue{packing: p, kind: k, hosts: p.streams(k), preferred: len(p.first) > 0}
	return q
}

// queue yields a kind's hosts: those that are preferred first.
type queue struct {
	*packing
	kind      *jobKind
	hosts     *merger
	preferred bool // only those yet
}

// next is the next host, nil after the last.
func (q *queue) next() *host {
	for {
		h := q.hosts.next()
		switch {
		case h == nil && q.preferred:
			q.preferred, q.hosts = false, q.streams(q.kind)
		case h == nil:
			return nil
		case !q.barred[h] && (len(q.first) == 0 || q.first[h.name] == q.preferred):
			return h
		}
	}
}

func (p *packing) streams(k *jobKind) *merger {
	var streams []*stream
	for _, c := range p.fleet.cells {
		if c == nil {
			continue
		}
		list := p.layoutWishes(k, c.layout)
		if list == nil {
			continue
		}
		if p.opts.Policy == ByName {
			streams = append(streams, memberStream(c))
			continue
		}
		for _, slot := range wishSlots(c.layout, &list[k.scarce]) {
			s := &c.layout.slots[slot]
			streams = append(streams, p.fleet.freeStream(c, slot, p.opts.Policy, p.fleet.rankBase(p.opts.Policy, k.classes[k.scarce], s.offer, s.types)))
		}
	}
	return p.fleet.merger(streams)
}

// space is what a host has left under the plan.
func (p *packing) space(h *host) *space {
	s := p.spaces[h]
	if s == nil {
		s = newSpace(h)
		p.spaces[h] = s
	}
	return s
}

// apart reports whether a job may not be put on a host because of those there.
func (p *packing) apart(j *job, h *host) bool {
	if len(j.apart)+len(j.not) == 0 {
		return false
	}
	if p.bars(j, h) {
		return true
	}
	return slices.ContainsFunc(p.placed[h], func(o *job) bool {
		return o != j && slices.ContainsFunc(o.apart, func(label string) bool { return slices.Contains(j.apart, label) })
	})
}

// place puts a job on a host beside what is there, if it fits.
func (p *packing) place(j *job, h *host) bool {
	offers, ok := p.space(h).fit(p.wishes(j.kind, h))
	if !ok {
		return false
	}
	j.to, j.offers = h, offers
	p.placed[h] = append(p.placed[h], j)
	return true
}

// greedy places all jobs, each on the best host that has room: first the kinds
// with the fewest hosts; where that leaves some, also first the smallest, which
// leaves fewer where room is short; and it keeps what moves more.
func (p *packing) greedy() {
	var kinds []*jobKind
	for _, k := range p.kinds {
		p.survey(k)
		kinds = append(kinds, k)
	}
	p.inOrder(kinds, func(a, b *jobKind) int {
		return cmp.Or(cmp.Compare(a.hosts, b.hosts), cmp.Compare(len(b.classes), len(a.classes)), cmp.Compare(a.number, b.number))
	})
	moved := p.moved()
	if moved == len(p.jobs) {
		return
	}
	spaces, placed := p.spaces, p.placed
	before := slices.Clone(p.jobs)
	for i, j := range p.jobs {
		before[i] = &job{to: j.to, offers: j.offers}
		j.to, j.offers = nil, nil
	}
	p.spaces, p.placed = make(map[*host]*space), make(map[*host][]*job)
	p.inOrder(kinds, func(a, b *jobKind) int {
		return cmp.Or(cmp.Compare(a.size, b.size), cmp.Compare(a.hosts, b.hosts), cmp.Compare(a.number, b.number))
	})
	if p.moved() > moved {
		return
	}
	p.spaces, p.placed = spaces, placed
	for i, j := range p.jobs {
		j.to, j.offers = before[i].to, before[i].offers
	}
}

// inOrder places the jobs of all kinds in an order.
func (p *packing) inOrder(kinds []*jobKind, order func(a, b *jobKind) int) {
	slices.SortFunc(kinds, order)
	for _, k := range kinds {
		k.more, k.live = p.candidates(k), nil
		jobs := slices.Clone(k.jobs)
		// What is kept apart has fewer hosts still.
		slices.SortStableFunc(jobs, func(a, b *job) int { return cmp.Compare(len(b.apart)+len(b.not), len(a.apart)+len(a.not)) })
		for _, j := range jobs {
			if p.fleet.ended() {
				return
			}
			p.settle(j)
		}
	}
}

// settle places a job on the first host that takes it: one that has taken
// others before, or, to spread, first one that has not.
func (p *packing) settle(j *job) bool {
	if p.opts.Policy == Spread {
		return p.fresh(j) || p.again(j)
	}
	return p.again(j) || p.fresh(j)
}

// again tries the hosts looked at before. Hosts only get fuller meanwhile: one
// that has no room for a kind is not looked at again.
func (p *packing) again(j *job) bool {
	k := j.kind
	live := k.live[:0]
	for i, h := range k.live {
		switch {
		case p.apart(j, h):
			live = append(live, h)
		case p.place(j, h):
			if p.opts.Policy == Spread { // the next one goes elsewhere
				live = append(append(live, k.live[i+1:]...), h)
			} else {
				live = append(live, k.live[i:]...)
			}
			k.live = live
			return true
		}
	}
	k.live = live
	return false
}

// fresh tries hosts that were not looked at yet.
func (p *packing) fresh(j *job) bool {
	for h := j.kind.more.next(); h != nil; h = j.kind.more.next() {
		apart := p.apart(j, h)
		if apart || p.place(j, h) {
			j.kind.live = append(j.kind.live, h)
		}
		if j.to == h {
			return true
		}
	}
	return false
}
