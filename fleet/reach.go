// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"fmt"
	"slices"

	"kindred/compat"
	"kindred/inventory"
)

// Reach is where all devices of a fleet could go now. Devices with the same
// answer are told together, since a fleet has few kinds of them.
type Reach struct {
	Simulated bool          `json:"simulated,omitempty"` // some of these hosts do not exist
	Hosts     int           `json:"hosts"`
	Silent    int           `json:"silent,omitempty"` // hosts that do not report; they and their devices are left out
	Devices   int           `json:"devices"`
	Kinds     []Kind        `json:"kinds"`          // by the most devices
	Stranded  []DeviceReach `json:"stranded"`       // devices that could go nowhere now, by host
	OneLeft   []DeviceReach `json:"one_left"`       // those with one host to go to
	Each      []DeviceReach `json:"each,omitempty"` // every device, where it was asked for
}

// Kind is devices that have the same answer everywhere.
type Kind struct {
	Type    inventory.TypeName `json:"type"`
	Label   inventory.Value    `json:"label,omitzero"`
	Build   string             `json:"build"` // of the drivers behind it, for people
	Devices int                `json:"devices"`
	Counts  map[Group]int      `json:"counts"` // all hosts by group, the device's own among them
	Ways    []Way              `json:"ways"`   // where it could go now, by the most hosts
}

// Way is a type to create and the parents, alike to the device, that would:
// one direction to go.
type Way struct {
	Type   inventory.TypeName `json:"type"`
	Build  string             `json:"build"`  // of the drivers there, for people
	Hosts  int                `json:"hosts"`  // ready, with room
	Room   int                `json:"room"`   // how many there is room for there, one device at a time
	Return compat.Outcome     `json:"return"` // could it come back
}

// DeviceReach is how far one device reaches. Its own host is not counted.
type DeviceReach struct {
	Device  string             `json:"device"`
	Host    string             `json:"host"`
	Type    inventory.TypeName `json:"type"`
	Ready   int                `json:"ready"`   // hosts by group
	Full    int                `json:"full"`    // would take it, with more room
	Unknown int                `json:"unknown"` // would perhaps
	Ways    []Way              `json:"ways,omitempty"`
}

// kindReach is what a class of devices reaches, before its own host is left
// out.
type kindReach struct {
	class  *deviceClass
	hosts  [4]int // by group; all of them report
	ways   []Way
	offers []*offer // of the ways
	number int      // devices
}

// reacher answers for many classes, and remembers what they have in common.
type reacher struct {
	fleet *Fleet
	met   map[[4]inventory.Value]inventory.Answer
	kinds map[*deviceClass]*kindReach
	order []*kindReach
}

func (f *Fleet) reacher() *reacher {
	return &reacher{fleet: f, met: make(map[[4]inventory.Value]inventory.Answer), kinds: make(map[*deviceClass]*kindReach)}
}

// Reach answers for every device. With each, the ways of every single one are
// told too.
func (f *Fleet) Reach(each bool) *Reach {
	r := f.reacher()
	answer := &Reach{Simulated: f.simulated > 0, Hosts: f.hosts.size, Kinds: []Kind{}, Stranded: []DeviceReach{}, OneLeft: []DeviceReach{}}
	for h := range f.hosts.all {
		if f.ended() {
			break
		}
		for at := range h.devices {
			k := r.kind(h.devices[at].class)
			k.number++
			answer.Devices++
			ready := k.hosts[0] - r.ownReady(h, k)
			if ready > 1 && !each {
				continue
			}
			d := r.device(h, at)
			switch d.Ready {
			case 0:
				answer.Stranded = append(answer.Stranded, d)
			case 1:
				answer.OneLeft = append(answer.OneLeft, d)
			}
			if each {
				answer.Each = append(answer.Each, d)
			}
		}
	}
	alike := make(map[string]int) // what devices of several classes are told as
	for _, k := range r.order {
		t := k.told()
		key := fmt.Sprint(t.Type, t.Label, t.Build, t.Counts, t.Ways)
		if n, ok := alike[key]; ok {
			answer.Kinds[n].Devices += t.Devices
			continue
		}
		alike[key] = len(answer.Kinds)
		answer.Kinds = append(answer.Kinds, t)
	}
	slices.SortStableFunc(answer.Kinds, func(a, b Kind) int {
		return cmp.Or(cmp.Compare(b.Devices, a.Devices), a.Type.Compare(b.Type), cmp.Compare(a.Build, b.Build))
	})
	return answer
}

func (k *kindReach) told() Kind {
	what := k.class.source.what
	t := Kind{Type: what.Type(), Label: what.Label(), Build: what.Build().Short(), Devices: k.number, Counts: make(map[Group]int), Ways: k.ways}
	for i, n := range k.hosts {
		t.Counts[Groups[i]] = n
	}
	if t.Ways == nil {
		t.Ways = []Way{}
	}
	return t
}

// kind is what a class reaches, worked out once: each layout is asked about as
// a whole.
func (r *reacher) kind(c *deviceClass) *kindReach {
	if k := r.kinds[c]; k != nil {
		return k
	}
	k := &kindReach{class: c}
	r.kinds[c] = k
	r.order = append(r.order, k)
	ways := r.fleet.kinds.ways(c.source, r.fleet.offers)
	at := make(map[*offer]int)
	var good []int
	for _, cell := range r.fleet.cells {
		if cell == nil || cell.members.size == 0 {
			continue
		}
		l := cell.layout
		best, related := compat.Incompatible, false
		good = good[:0]
		for i := range l.slots {
			w := &ways[l.slots[i].offer.id]
			related = related || w.related
			best = min(best, w.there)
			if w.there == compat.Compatible {
				good = append(good, i)
			}
		}
		all := cell.members.size
		switch ready := r.ready(c, l); {
		case !related:
			k.hosts[r.fleet.none(l)] += all
		case best == compat.Incompatible || ready == inventory.No:
			k.hosts[3] += all
		case best == compat.Unknown || ready == inventory.Unknown:
			k.hosts[2] += all
		default:
			free, full := cell.ready(good)
			k.hosts[0] += free
			k.hosts[1] += full
			k.hosts[2] += all - free - full
			for j, i := range good {
				o := l.slots[i].offer
				same := slots(l, good[j:], o) // of this offer, told at the first
				if slices.ContainsFunc(good[:j], func(before int) bool { return l.slots[before].offer == o }) {
					continue
				}
				hosts, _ := cell.ready(same)
				if hosts == 0 {
					continue
				}
				n, ok := at[o]
				if !ok {
					n = len(k.ways)
					at[o] = n
					k.offers = append(k.offers, o)
					k.ways = append(k.ways, Way{Type: o.what.Type().TypeName, Build: o.what.Build().Short(), Return: ways[o.id].back})
				}
				k.ways[n].Hosts += hosts
				for _, s := range same {
					k.ways[n].Room += cell.slots[s].room
				}
			}
		}
	}
	k.sort()
	return k
}

// slots are those of some that are of one offer.
func slots(l *layout, of []int, o *offer) []int {
	var list []int
	for _, i := range of {
		if l.slots[i].offer == o {
			list = append(list, i)
		}
	}
	return list
}

func (k *kindReach) sort() {
	order := make([]int, len(k.ways))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := &k.ways[a], &k.ways[b]
		return cmp.Or(cmp.Compare(y.Hosts, x.Hosts), cmp.Compare(y.Room, x.Room), x.Type.Compare(y.Type), cmp.Compare(k.offers[a].class, k.offers[b].class))
	})
	ways, offers := make([]Way, len(order)), make([]*offer, len(order))
	for i, n := range order {
		ways[i], offers[i] = k.ways[n], k.offers[n]
	}
	k.ways, k.offers = ways, offers
}

// ready is the answer to the conditions between the device's host and a layout.
func (r *reacher) ready(c *deviceClass, l *layout) inventory.Answer {
	key := [4]inventory.Value{c.qemu, c.libvirt, l.qemu, l.libvirt}
	answer, ok := r.met[key]
	if !ok {
		answer = met(readiness(c.qemu, c.libvirt, l))
		r.met[key] = answer
	}
	return answer
}

// ownReady is 1 if the device's own host would be ready for it.
func (r *reacher) ownReady(h *host, k *kindReach) int {
	if r.group(h, k.class) == atReady {
		return 1
	}
	return 0
}

// group is a host's group for a class of devices.
func (r *reacher) group(h *host, c *deviceClass) groupAt {
	ways := r.fleet.kinds.ways(c.source, r.fleet.offers)
	best, related := compat.Incompatible, false
	anyFree, anyFull := false, false
	for i := range h.layout.offers {
		w := &ways[h.layout.offers[i].offer.id]
		related = related || w.related
		best = min(best, w.there)
		if w.there == compat.Compatible {
			anyFree = anyFree || isFree(h.rooms[i])
			anyFull = anyFull || isFull(h.rooms[i])
		}
	}
	switch ready := r.ready(c, h.layout); {
	case !related:
		return r.fleet.none(h.layout)
	case best == compat.Incompatible || ready == inventory.No:
		return atNotAllowed
	case best == compat.Unknown || ready == inventory.Unknown:
		return atUnsettled
	case anyFree:
		return atReady
	case anyFull:
		return atFull
	}
	return atUnsettled
}

// device is what one device reaches.
func (r *reacher) device(h *host, at int) DeviceReach {
	d := &h.devices[at]
	k := r.kind(d.class)
	hosts := k.hosts
	own := r.group(h, d.class)
	hosts[own]--
	answer := DeviceReach{Device: d.id, Host: h.name, Type: d.content.device.Type, Ready: hosts[0], Full: hosts[1], Unknown: hosts[2]}
	for i, w := range k.ways {
		if own == atReady {
			free, room := false, 0
			for j := range h.layout.offers {
				if h.layout.offers[j].offer == k.offers[i] && isFree(h.rooms[j]) {
					free, room = true, room+certain(h.rooms[j])
				}
			}
			if free {
				w.Hosts--
				w.Room -= room
			}
		}
		if w.Hosts > 0 {
			answer.Ways = append(answer.Ways, w)
		}
	}
	return answer
}
