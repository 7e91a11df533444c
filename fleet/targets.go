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
	Hosts     []Target         `json:"hosts"`               // by group, then name
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
	Others  []Other            `json:"others"` // what was not chosen, and why
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
}

// tooOld is the inventory's age if that is more than allowed, else empty.
func (o *Options) tooOld(inv *inventory.Inventory) string {
	if age := o.Now.Sub(inv.Taken); o.MaxAge > 0 && age > o.MaxAge {
		return age.Truncate(time.Second).String()
	}
	return ""
}

// Targets answers for every host but the device's own.
func (f *Fleet) Targets(s *compat.Source, opts Options) *Targets {
	answer := &Targets{Device: describe(s), Counts: make(map[Group]int), Hosts: []Target{}}
	for _, g := range Groups {
		answer.Counts[g] = 0
	}
	for i := range f.hosts {
		h := &f.hosts[i]
		answer.Simulated = answer.Simulated || h.inv.Origin == inventory.FromSimulator
		if h.inv.Host.Name == s.Host() {
			answer.Source, answer.Device.Age = h.inv.Origin, opts.tooOld(h.inv)
			continue
		}
		t := f.target(s, f.hostNamed(s.Host()), h)
		if age := opts.tooOld(h.inv); age != "" {
			t.Group, t.Age = NotReporting, age
		}
		answer.Counts[t.Group]++
		answer.Hosts = append(answer.Hosts, t)
	}
	slices.SortStableFunc(answer.Hosts, func(a, b Target) int {
		return cmp.Compare(slices.Index(Groups, a.Group), slices.Index(Groups, b.Group))
	})
	return answer
}

func describe(s *compat.Source) Device {
	return Device{ID: s.ID, Host: s.Host(), Parent: s.Parent(), Type: s.Type(), Label: s.Label(), Build: s.Build(), Contract: s.Contract() != nil}
}

func (f *Fleet) hostNamed(name string) *host {
	for i := range f.hosts {
		if f.hosts[i].inv.Host.Name == name {
			return &f.hosts[i]
		}
	}
	return nil
}

// candidate is one offer of a host, judged.
type candidate struct {
	offer   *compat.Offer
	verdict compat.Verdict
	room    Room
	group   Group
}

// target answers for one host: the best offer by group, then most room, then
// parent and type, so that the answer does not depend on any order.
func (f *Fleet) target(s *compat.Source, from *host, h *host) Target {
	conditions := readiness(from.inv, h.inv)
	t := Target{Group: NotAllowed, Host: h.inv.Host.Name, Ready: conditions, Others: []Other{}}
	var list []candidate
	for _, o := range h.offers {
		c := candidate{offer: o, verdict: f.engine.Check(s, o), room: room(o)}
		c.group = group(c.verdict.Outcome, c.room, conditions)
		list = append(list, c)
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		return cmp.Or(
			cmp.Compare(slices.Index(Groups, a.group), slices.Index(Groups, b.group)),
			cmp.Compare(a.verdict.Outcome, b.verdict.Outcome),
			cmp.Compare(closeness(b), closeness(a)),
			cmp.Compare(count(b.room), count(a.room)),
			cmp.Compare(a.offer.Parent(), b.offer.Parent()),
			a.offer.Type().Compare(b.offer.Type().TypeName),
		)
	})
	if len(list) == 0 || different(&list[0].verdict) {
		t.Verdict = new(compat.NotOffered(s, h.inv))
		if t.Verdict.Outcome == compat.Unknown {
			t.Group = Unsettled
		}
		for _, c := range list {
			t.Others = append(t.Others, other(c))
		}
		return t
	}
	best := list[0]
	t.Group, t.Parent, t.Type, t.Label = best.group, best.offer.Parent(), best.verdict.Type, best.offer.Type().Label
	t.Room, t.Verdict = &best.room, &best.verdict
	if best.verdict.Outcome != compat.Incompatible {
		back := compat.Unknown
		if home := f.engine.Home(s); home != nil {
			back = f.engine.Outcome(f.engine.Arrived(s, best.offer), home)
		}
		t.Return = &back
	}
	for _, c := range list[1:] {
		t.Others = append(t.Others, other(c))
	}
	return t
}

func other(c candidate) Other {
	return Other{c.offer.Parent(), c.verdict.Type, c.verdict.Outcome, c.room, c.verdict.Findings}
}

// different is true for an offer of quite another type.
func different(v *compat.Verdict) bool {
	return len(v.Findings) > 0 && v.Findings[0].Code == compat.TypeDifferent
}

// closeness prefers, among offers that all refuse, one of the device's type:
// its reason says more.
func closeness(c candidate) int {
	if different(&c.verdict) {
		return 0
	}
	return 1
}

func count(r Room) int {
	if r.Count == nil {
		return -1
	}
	return *r.Count
}

// room is what the kernel says of one type. Types that share a pool shrink
// together in that count.
func room(o *compat.Offer) Room {
	switch n := o.Type().Available; {
	case o.Type().Creatable == inventory.No, n != nil && *n == 0:
		return Room{RoomFull, n}
	case n == nil && o.Type().Creatable != inventory.Yes:
		return Room{RoomUnknown, nil}
	default:
		return Room{RoomFree, n}
	}
}

func group(outcome compat.Outcome, r Room, conditions []Condition) Group {
	ready := inventory.Yes
	for _, c := range conditions {
		switch {
		case c.Met == inventory.No:
			ready = inventory.No
		case c.Met == inventory.Unknown && ready == inventory.Yes:
			ready = inventory.Unknown
		}
	}
	switch {
	case outcome == compat.Incompatible || ready == inventory.No:
		return NotAllowed
	case outcome == compat.Unknown || ready == inventory.Unknown:
		return Unsettled
	case r.Code == RoomFull:
		return Full
	case r.Code == RoomUnknown:
		return Unsettled
	}
	return Ready
}
