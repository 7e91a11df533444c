// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/binary"
	"slices"

	"kindred/compat"
	"kindred/inventory"
)

// view is what a layout is to a class of devices: everything of an answer but
// room. Offers of quite another type are in none of its lists. It does not change.
type view struct {
	ready      inventory.Answer
	conditions []Condition
	good       []int // offers that are compatible
	open       []int // offers that are unknown
	bad        []int // offers of the device's type that are not
	slots      []int // of the good ones
}

// views are those of one class on every layout of the fleet, by number.
func (f *Fleet) views(c *deviceClass) []*view {
	var old []*view
	if p := c.views.Load(); p != nil {
		old = *p
	}
	missing := len(old) < len(f.cells)
	for id, cell := range f.cells {
		missing = missing || cell != nil && old[id] == nil
	}
	if !missing {
		return old
	}
	next := make([]*view, max(len(f.cells), len(old)))
	copy(next, old)
	ways := f.kinds.ways(c.source, f.offers)
	for id, cell := range f.cells {
		if cell != nil && next[id] == nil {
			next[id] = newView(c, cell.layout, ways)
		}
	}
	c.views.Store(&next)
	return next
}

// alike names what devices have in common whose views on a layout are equal.
type alike struct {
	qemu, libvirt inventory.Value
	offers        string // those of a related type, with the outcomes
}

// newView is the view of a class on a layout. A fleet has many classes of devices,
// and few views: those that are equal are kept once.
func newView(c *deviceClass, l *layout, ways []way) *view {
	key := alike{c.qemu, c.libvirt, ""}
	var text []byte
	for i := range l.offers {
		if w := ways[l.offers[i].offer.id]; w.related {
			text = append(binary.AppendUvarint(text, uint64(i)), byte(w.there))
		}
	}
	key.offers = string(text)
	if known, ok := l.views.Load(key); ok {
		return known.(*view)
	}
	v := &view{conditions: readiness(c.qemu, c.libvirt, l)}
	v.ready = met(v.conditions)
	for i := range l.offers {
		w := ways[l.offers[i].offer.id]
		switch {
		case !w.related:
		case w.there == compat.Compatible:
			v.good = append(v.good, i)
			if s := l.offers[i].slot; !slices.Contains(v.slots, s) {
				v.slots = append(v.slots, s)
			}
		case w.there == compat.Unknown:
			v.open = append(v.open, i)
		default:
			v.bad = append(v.bad, i)
		}
	}
	kept, _ := l.views.LoadOrStore(key, v)
	return kept.(*view)
}

// tier is the best offers there are, by outcome.
func (v *view) tier() (offers []int, outcome compat.Outcome) {
	switch {
	case len(v.good) > 0:
		return v.good, compat.Compatible
	case len(v.open) > 0:
		return v.open, compat.Unknown
	}
	return v.bad, compat.Incompatible
}

// groupAt is a group by its place in Groups.
type groupAt uint8

const (
	atReady groupAt = iota
	atFull
	atUnsettled
	atNotAllowed
	atNotReporting
)

func (g groupAt) group() Group { return Groups[g] }

// group is the host's group as far as room does not decide.
func (v *view) group(outcome compat.Outcome) groupAt {
	switch {
	case outcome == compat.Incompatible || v.ready == inventory.No:
		return atNotAllowed
	case outcome == compat.Unknown || v.ready == inventory.Unknown:
		return atUnsettled
	}
	return atReady
}

// choice is the offer that stands for a host, none where no type of it comes
// into question.
type choice struct {
	offer   int // of the layout; -1 for none
	outcome compat.Outcome
	group   groupAt
	rank    uint64 // by the policy, lower first
}

// choose picks a host's best offer: by outcome, room, policy, most room, parent
// and type.
func (f *Fleet) choose(h *host, c *deviceClass, v *view, policy Policy) choice {
	offers, outcome := v.tier()
	if len(offers) == 0 {
		best := choice{offer: -1, outcome: compat.Incompatible, group: f.none(h.layout)}
		if best.group == atUnsettled {
			best.outcome = compat.Unknown
		}
		return best
	}
	group := v.group(outcome)
	best := choice{offer: -1}
	for _, i := range offers {
		next := choice{offer: i, outcome: outcome, group: group}
		packed := h.rooms[i]
		if group == atReady {
			switch {
			case isFull(packed):
				next.group = atFull
			case packed == roomUnknown:
				next.group = atUnsettled
			case policy != ByName:
				next.rank = f.rank(policy, c, &h.layout.offers[i], h.layout, packed)
			}
		}
		if best.offer < 0 || next.group < best.group || next.group == best.group &&
			(next.rank < best.rank || next.rank == best.rank && told(packed) > told(h.rooms[best.offer])) {
			best = next
		}
	}
	return best
}

// told is how many more the kernel says it would create, -1 when it does not.
func told(packed int32) int32 {
	switch {
	case packed >= 0:
		return packed
	case packed >= -3:
		return -1
	}
	return -3 - packed
}
