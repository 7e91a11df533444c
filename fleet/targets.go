// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"slices"
	"time"

	"kindred/compat"
	"kindred/inventory"
)

// Group is the answer for one host.
type Group string

const (
	Ready        Group = "ready"         // compatible, with room, and ready for the move
	Full         Group = "full"          // compatible, but nothing more can be created there
	Unsettled    Group = "unknown"       // something is not known: see the findings
	NotAllowed   Group = "not-allowed"   // incompatible or not ready
	NotReporting Group = "not-reporting" // the inventory is too old to be believed
)

// Groups in the order they are shown.
var Groups = []Group{Ready, Full, Unsettled, NotAllowed, NotReporting}

// Targets is the answer to "where can this device go".
type Targets struct {
	Device    Device           `json:"device"`
	Simulated bool             `json:"simulated,omitempty"` // some of these hosts do not exist
	Counts    map[Group]int    `json:"counts"`              // hosts by group
	Reasons   []Reason         `json:"reasons,omitempty"`   // what put them there, most hosts first; where it was asked for
	Hosts     []Target         `json:"hosts"`               // by group, then the policy, then name; as many as were asked for
	Source    inventory.Origin `json:"source"`              // where the device's inventory came from
}

// Device is the device asked about.
type Device struct {
	ID       string             `json:"id"`
	Host     string             `json:"host"`
	Parent   string             `json:"parent"`
	Type     inventory.TypeName `json:"type"`
	Label    inventory.Value    `json:"label,omitzero"`
	Build    *compat.Build      `json:"build"`
	Contract bool               `json:"contract"`      // a promise to its guest is on record
	Age      string             `json:"age,omitempty"` // of its host's inventory, when that is too old
}

// Target is the answer for one host: its best parent, and what others say.
type Target struct {
	Group   Group              `json:"group"`
	Host    string             `json:"host"`
	Parent  string             `json:"parent,omitempty"`
	Type    inventory.TypeName `json:"type,omitzero"` // what to create there
	Label   inventory.Value    `json:"label,omitzero"`
	Room    *Room              `json:"room,omitempty"`   // nil: nothing to create
	Return  *compat.Outcome    `json:"return,omitempty"` // could it come back; nil: no device could go
	Age     string             `json:"age,omitempty"`    // of an inventory that is too old
	Verdict *compat.Verdict    `json:"verdict,omitempty"`
	Ready   []Condition        `json:"ready"`
	Others  []Other            `json:"others"` // what was not chosen, and why; where it was asked for
}

// Room is how many more instances the parent would create now.
type Room struct {
	Code  Code `json:"code"`            // room.free, room.full, room.unknown
	Count *int `json:"count,omitempty"` // nil: not known
}

// Other is an offer that was not chosen.
type Other struct {
	Parent   string             `json:"parent"`
	Type     inventory.TypeName `json:"type"`
	Outcome  compat.Outcome     `json:"outcome"`
	Room     Room               `json:"room"`
	Findings []compat.Finding   `json:"findings"`
}

// Options of a question.
type Options struct {
	// Now and MaxAge put hosts whose inventory is older among those that do
	// not report; zero: inventories do not age.
	Now    time.Time
	MaxAge time.Duration
	Policy Policy // in which order hosts that are ready come; empty: by name
	Limit  int    // how many hosts are listed; 0: all, negative: none
	// Others asks for what was not chosen, Reasons for a summary over all hosts.
	Others  bool
	Reasons bool
}

// tooOld is the inventory's age if that is more than allowed, else empty.
func (o *Options) tooOld(taken time.Time) string {
	if age := o.Now.Sub(taken); o.MaxAge > 0 && age > o.MaxAge {
		return age.Truncate(time.Second).String()
	}
	return ""
}

// question is one device asked about, with what does not depend on hosts.
type question struct {
	fleet  *Fleet
	source *Source
	own    *host // the device's, as it is in this fleet; nil when it is not there
	class  *deviceClass
	views  []*view
	ways   []way
	opts   Options
	silent map[string]bool // hosts that do not report
}

func (f *Fleet) ask(s *Source, opts Options) *question {
	if opts.Policy == "" {
		opts.Policy = ByName
	}
	q := &question{fleet: f, source: s, own: f.host(s.Host()), class: s.device().class, opts: opts}
	q.views, q.ways = f.views(q.class), f.kinds.ways(q.class.source, f.offers)
	if opts.MaxAge > 0 {
		q.silent = make(map[string]bool)
		for _, h := range f.since(opts.Now.Add(-opts.MaxAge)) {
			q.silent[h.name] = h != q.own
		}
	}
	return q
}

// choose is the host's best offer, and its group with silence counted in.
func (q *question) choose(h *host) (choice, *view) {
	v := q.views[h.layout.id]
	c := q.fleet.choose(h, q.class, v, q.opts.Policy)
	if q.silent != nil && q.silent[h.name] {
		c.group = atNotReporting
	}
	return c, v
}

// Targets answers for every host but the device's own.
func (f *Fleet) Targets(s *Source, opts Options) *Targets {
	q := f.ask(s, opts)
	answer := &Targets{
		Device: describe(s), Simulated: f.simulated > 0, Counts: q.counts(), Hosts: []Target{},
		Source: s.host.origin,
	}
	answer.Device.Age = opts.tooOld(s.host.taken)
	if opts.Reasons {
		answer.Reasons = q.reasons()
	}
	n := f.hosts.size
	if opts.Limit != 0 {
		n = max(min(opts.Limit, n), 0)
	}
	page := newPage(n)
	answer.Hosts = make([]Target, 0, n)
	q.list(answer.Counts, func(h *host, c choice) { answer.Hosts = append(answer.Hosts, q.target(h, c, page)) })
	return answer
}

// page is the memory of the hosts that are listed, got at once.
type page struct {
	verdicts []compat.Verdict
	rooms    []Room
	counts   []int
	returns  []compat.Outcome
}

func newPage(n int) *page {
	return &page{make([]compat.Verdict, 0, n), make([]Room, 0, n), make([]int, 0, n), make([]compat.Outcome, 0, n)}
}

// last appends to one of the page's lists, which has room, and returns where.
func last[T any](list *[]T, item T) *T {
	*list = append(*list, item)
	return &(*list)[len(*list)-1]
}

// room is a room of the page.
func (p *page) room(packed int32) *Room {
	if packed > 0 {
		return last(&p.rooms, Room{RoomFree, last(&p.counts, int(packed))})
	}
	return last(&p.rooms, unpackRoom(packed))
}

func describe(s *Source) Device {
	d := s.device()
	what := d.class.source.what
	return Device{
		ID: d.id, Host: s.host.name, Parent: s.host.layout.parents[d.parent].name,
		Type: what.Type(), Label: what.Label(), Build: what.Build(), Contract: what.Contract() != nil,
	}
}

// counts is how many hosts are in each group. It asks each layout once, and
// looks at single hosts only where they do not report.
func (q *question) counts() map[Group]int {
	var n [5]int
	for id, c := range q.fleet.cells {
		if c == nil || c.members.size == 0 {
			continue
		}
		v := q.views[id]
		_, outcome := v.tier()
		switch g := v.group(outcome); {
		case g == atReady:
			free, full := c.ready(v.slots)
			n[atReady] += free
			n[atFull] += full
			n[atUnsettled] += c.members.size - free - full
		case v.none():
			n[q.fleet.none(c.layout)] += c.members.size
		default:
			n[g] += c.members.size
		}
	}
	if own := q.own; own != nil {
		n[q.fleet.choose(own, q.class, q.views[own.layout.id], ByName).group]--
	}
	for name, silent := range q.silent {
		if silent {
			h := q.fleet.host(name)
			n[q.fleet.choose(h, q.class, q.views[h.layout.id], ByName).group]--
			n[atNotReporting]++
		}
	}
	counts := make(map[Group]int, len(Groups))
	for i, g := range Groups {
		counts[g] = n[i]
	}
	return counts
}

// none reports whether no type of the layout comes into question.
func (v *view) none() bool { return len(v.good)+len(v.open)+len(v.bad) == 0 }

// none is the group of hosts of which no type comes into question.
func (f *Fleet) none(l *layout) groupAt {
	if l.unlisted {
		return atUnsettled
	}
	return atNotAllowed
}

// list calls yield for the hosts in the order of the answer, as many as are
// asked for.
func (q *question) list(counts map[Group]int, yield func(*host, choice)) {
	left := q.opts.Limit
	if left == 0 {
		left = q.fleet.hosts.size
	}
	for i, name := range Groups {
		g, wanted := groupAt(i), min(counts[name], left)
		if wanted <= 0 {
			continue
		}
		left -= wanted
		for m := q.fleet.merger(q.streams(g)); wanted > 0; {
			h := m.next()
			if h == q.own {
				continue
			}
			if c, _ := q.choose(h); c.group == g {
				yield(h, c)
				wanted--
			}
		}
	}
}

// streams yield at least the hosts of a group, in the order of the answer.
func (q *question) streams(g groupAt) []*stream {
	var list []*stream
	for id, c := range q.fleet.cells {
		if c == nil || c.members.size == 0 {
			continue
		}
		v := q.views[id]
		_, outcome := v.tier()
		most := v.group(outcome) // of the cell; room may make a host full or unknown
		if v.none() {
			most = q.fleet.none(c.layout)
		}
		switch {
		case g == atReady && most == atReady && q.opts.Policy != ByName:
			for _, slot := range v.slots {
				s := &c.layout.slots[slot]
				list = append(list, q.fleet.freeStream(c, slot, q.opts.Policy, q.fleet.rankBase(q.opts.Policy, q.class, s.offer, s.types)))
			}
		case g == most, most == atReady && (g == atFull || g == atUnsettled), g == atNotReporting:
			list = append(list, memberStream(c))
		}
	}
	return list
}

// target answers for one host.
func (q *question) target(h *host, c choice, p *page) Target {
	v := q.views[h.layout.id]
	t := Target{Group: c.group.group(), Host: h.name, Ready: v.conditions, Others: []Other{}}
	if c.group == atNotReporting {
		t.Age = q.opts.tooOld(h.taken)
	}
	if q.opts.Others {
		t.Others = q.others(h, v, c.offer)
	}
	if c.offer < 0 {
		t.Verdict = last(&p.verdicts, *q.class.source.notOffered(h.layout))
		t.Verdict.Host = h.name
		return t
	}
	o := &h.layout.offers[c.offer]
	t.Parent, t.Type, t.Label = h.layout.parents[o.parent].name, o.typ.TypeName, o.typ.Label
	t.Room, t.Verdict = p.room(h.rooms[c.offer]), last(&p.verdicts, *q.fleet.kinds.verdict(q.class.source, o.offer))
	t.Verdict.Host, t.Verdict.Parent = h.name, t.Parent
	if c.outcome != compat.Incompatible {
		t.Return = last(&p.returns, q.ways[o.offer.id].back)
	}
	return t
}

// verdict is that on an offer of one host.
func (q *question) verdict(h *host, o *layoutOffer) *compat.Verdict {
	v := *q.fleet.kinds.verdict(q.class.source, o.offer)
	v.Host, v.Parent = h.name, h.layout.parents[o.parent].name
	return &v
}

// others are a host's offers that were not chosen, best first.
func (q *question) others(h *host, v *view, chosen int) []Other {
	type candidate struct {
		choice
		tier int
	}
	var list []candidate
	for i := range h.layout.offers {
		w := q.ways[h.layout.offers[i].offer.id]
		c := candidate{choice{offer: i, outcome: w.there, group: v.group(w.there)}, 0}
		if !w.related {
			c.tier = 1
		}
		if c.group == atReady {
			switch {
			case isFull(h.rooms[i]):
				c.group = atFull
			case h.rooms[i] == roomUnknown:
				c.group = atUnsettled
			}
		}
		list = append(list, c)
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		return cmp.Or(
			cmp.Compare(a.group, b.group),
			cmp.Compare(a.outcome, b.outcome),
			cmp.Compare(a.tier, b.tier),
			cmp.Compare(told(h.rooms[b.offer]), told(h.rooms[a.offer])),
			cmp.Compare(a.offer, b.offer),
		)
	})
	others := []Other{}
	for _, c := range list {
		if c.offer != chosen {
			o := &h.layout.offers[c.offer]
			verdict := q.verdict(h, o)
			others = append(others, Other{verdict.Parent, o.typ.TypeName, verdict.Outcome, unpackRoom(h.rooms[c.offer]), verdict.Findings})
		}
	}
	return others
}
