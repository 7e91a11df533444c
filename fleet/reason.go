// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"slices"

	"kindred/compat"
	"kindred/inventory"
)

// Reason is what put hosts into a group.
type Reason struct {
	Group Group  `json:"group"`
	Code  string `json:"code,omitempty"` // of compat or of this package; empty for an inventory that is too old
	Text  string `json:"text"`
	Hosts int    `json:"hosts,omitempty"` // how many, in a summary
}

// Reason says what put the host into its group.
func (t *Target) Reason() Reason {
	if t.Group == NotReporting {
		return Reason{Group: t.Group, Text: "the inventory is " + t.Age + " old"}
	}
	return why(t.Group, t.Verdict, t.Ready, t.Room)
}

func why(g Group, v *compat.Verdict, conditions []Condition, room *Room) Reason {
	if v.Outcome != compat.Incompatible {
		for _, c := range conditions {
			if c.Met == inventory.No || c.Met == inventory.Unknown && g == Unsettled && v.Outcome == compat.Compatible {
				return Reason{Group: g, Code: string(c.Code), Text: c.Detail}
			}
		}
		if v.Outcome == compat.Compatible && room.Code != RoomFree {
			return Reason{Group: g, Code: string(room.Code), Text: room.Code.Meaning()}
		}
	}
	f := v.Worst()
	if v.Outcome == compat.Compatible {
		f = settled(v)
	}
	if f == nil {
		return Reason{Group: g}
	}
	return Reason{Group: g, Code: string(f.Code), Text: f.Text()}
}

// settled is the finding that says how a compatible pair's builds compare.
func settled(v *compat.Verdict) *compat.Finding {
	for i := range v.Findings {
		switch v.Findings[i].Code {
		case compat.BuildEqual, compat.BuildEpoch, compat.BuildAccepted, compat.BuildProved:
			return &v.Findings[i]
		}
	}
	return nil
}

// reasons summarises over all hosts, most hosts first. Hosts of one layout
// that may be told apart by room alone are counted, not looked at.
func (q *question) reasons() []Reason {
	n := make(map[Reason]int)
	f := q.fleet
	for id, c := range f.cells {
		if c == nil || c.members.size == 0 {
			continue
		}
		v := q.views[id]
		if !q.alike(c.layout, v) {
			for h := range c.members.all {
				n[q.reason(h)]++
			}
			continue
		}
		_, outcome := v.tier()
		if g := v.group(outcome); g == atReady {
			free, full := c.ready(v.slots)
			for group, count := range map[Group]int{Ready: free, Full: full, Unsettled: c.members.size - free - full} {
				if count > 0 {
					n[q.layoutReason(c.layout, v, group)] += count
				}
			}
			continue
		}
		n[q.reason(first(c))] += c.members.size
	}
	if q.own != nil {
		n[q.reason(q.own)]--
	}
	for name, silent := range q.silent {
		if silent {
			h := f.host(name)
			was := q.silent
			q.silent = nil
			n[q.reason(h)]--
			q.silent = was
		}
	}
	if silent := q.silentCount(); silent > 0 {
		n[Reason{Group: NotReporting, Text: "the inventory is older than " + q.opts.MaxAge.String()}] = silent
	}
	return summary(n)
}

// summary lists reasons by group, most hosts first.
func summary(n map[Reason]int) []Reason {
	var list []Reason
	for r, hosts := range n {
		if hosts > 0 {
			r.Hosts = hosts
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b Reason) int {
		return cmp.Or(
			cmp.Compare(slices.Index(Groups, a.Group), slices.Index(Groups, b.Group)), cmp.Compare(b.Hosts, a.Hosts),
			cmp.Compare(a.Code, b.Code), cmp.Compare(a.Text, b.Text),
		)
	})
	return list
}

func (q *question) silentCount() int {
	n := 0
	for _, silent := range q.silent {
		if silent {
			n++
		}
	}
	return n
}

func first(c *cell) *host {
	at := c.members.start()
	h, _ := at.next()
	return h
}

// alike reports whether it is the same offer, by class, that stands for each
// host of a layout.
func (q *question) alike(l *layout, v *view) bool {
	offers, _ := v.tier()
	for _, i := range offers {
		if l.offers[i].offer != l.offers[offers[0]].offer {
			return false
		}
	}
	return true
}

// reason is that of one host, without its age.
func (q *question) reason(h *host) Reason {
	v := q.views[h.layout.id]
	c := q.fleet.choose(h, q.class, v, q.opts.Policy)
	if c.offer < 0 {
		return why(c.group.group(), q.class.source.notOffered(h.layout), v.conditions, nil)
	}
	room := unpackRoom(h.rooms[c.offer])
	return why(c.group.group(), q.fleet.kinds.verdict(q.class.source, h.layout.offers[c.offer].offer), v.conditions, &room)
}

// layoutReason is that of a ready layout's hosts with room in one state.
func (q *question) layoutReason(l *layout, v *view, g Group) Reason {
	room := Room{Code: map[Group]Code{Ready: RoomFree, Full: RoomFull, Unsettled: RoomUnknown}[g]}
	return why(g, q.fleet.kinds.verdict(q.class.source, l.offers[v.good[0]].offer), v.conditions, &room)
}
