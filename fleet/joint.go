// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"runtime"
	"slices"
	"sync"

	"kindred/compat"
	"kindred/inventory"
)

// Joint is the answer to "where can all these devices of one owner go
// together".
type Joint struct {
	Devices   []Device      `json:"devices"`
	Simulated bool          `json:"simulated,omitempty"` // some of these hosts do not exist
	Counts    map[Group]int `json:"counts"`              // hosts by group
	Reasons   []Reason      `json:"reasons,omitempty"`   // what put them there, most hosts first; where it was asked for
	Hosts     []JointTarget `json:"hosts"`               // by group, then the policy, then name; as many as were asked for
}

// JointTarget is the answer for one host.
type JointTarget struct {
	Group    Group           `json:"group"`
	Host     string          `json:"host"`
	Places   []Place         `json:"places"`             // for each device, where the host is ready
	Return   *compat.Outcome `json:"return,omitempty"`   // could they come back: the worst; nil: they could not go
	Estimate bool            `json:"estimate,omitempty"` // no model says how the types on a parent share it
	Age      string          `json:"age,omitempty"`      // of an inventory that is too old
	Ready    []Condition     `json:"ready"`
	Reason   Reason          `json:"reason"`
}

// Place is what a device gets.
type Place struct {
	Device  string             `json:"device"`
	Parent  string             `json:"parent"`
	Type    inventory.TypeName `json:"type"` // what to create there
	Label   inventory.Value    `json:"label,omitzero"`
	Room    Room               `json:"room"` // before any of them is created
	Verdict *compat.Verdict    `json:"verdict"`
}

// together is a question about several devices.
type together struct {
	fleet *Fleet
	each  []*question // for each device
	kinds []*question // one for each class
	opts  Options
	own   *host // the devices', as it is in this fleet
}

// ranked is a host that takes all devices.
type ranked struct {
	host *host
	base uint64 // the policy's: the worst of the devices'
	room uint64 // the sum of them
}

// Joint answers for every host but the devices' own. All devices are on one
// host. A host is ready when there is an assignment of all devices to parents
// that has room; it is full when each could go alone, but not all together.
// Policies go by the parents' worst evidence or number of types, then by the
// sum of their rooms.
func (f *Fleet) Joint(sources []*Source, opts Options) (*Joint, error) {
	t, err := f.together(sources, opts)
	if err != nil {
		return nil, err
	}
	answer := &Joint{Simulated: f.simulated > 0, Counts: make(map[Group]int), Hosts: []JointTarget{}}
	for _, s := range sources {
		answer.Devices = append(answer.Devices, describe(s))
	}
	ready, others := t.sort()
	reasons := make(map[Reason]int)
	for _, g := range Groups {
		answer.Counts[g] = len(others[g])
	}
	answer.Counts[Ready] = len(ready)
	left := opts.Limit
	if left == 0 {
		left = f.hosts.size
	}
	for _, g := range Groups {
		hosts := others[g]
		if g == Ready {
			for _, r := range ready {
				hosts = append(hosts, r.host)
			}
		}
		for _, h := range hosts {
			if left > 0 {
				answer.Hosts = append(answer.Hosts, t.target(h, g))
				left--
			} else if !opts.Reasons {
				break
			}
			if opts.Reasons {
				reasons[t.reason(h, g)]++
			}
		}
	}
	if opts.Reasons {
		answer.Reasons = summary(reasons)
	}
	return answer, nil
}

func (f *Fleet) together(sources []*Source, opts Options) (*together, error) {
	if len(sources) == 0 {
		return nil, &Error{NotFound, "", "no device was named"}
	}
	t := &together{fleet: f, opts: opts, own: f.host(sources[0].Host())}
	for i, s := range sources {
		if s.host != sources[0].host {
			return nil, &Error{Apart, s.Host() + "/" + s.ID(), "is on another host than " + sources[0].ID() + ": devices that move together are on one host"}
		}
		if slices.ContainsFunc(sources[:i], func(o *Source) bool { return o.at == s.at }) {
			return nil, &Error{Ambiguous, s.ID(), "named twice"}
		}
		q := f.ask(s, opts)
		t.each = append(t.each, q)
		if !slices.ContainsFunc(t.kinds, func(o *question) bool { return o.class == q.class }) {
			t.kinds = append(t.kinds, q)
		}
	}
	t.opts = t.each[0].opts
	return t, nil
}

// sort puts every host into its group, those that are ready by the policy, the
// others by name. Cores share the layouts.
func (t *together) sort() (ready []ranked, others map[Group][]*host) {
	others = make(map[Group][]*host)
	var mu sync.Mutex
	var all sync.WaitGroup
	cells := make(chan *cell)
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			mine := make(map[Group][]*host)
			var good []ranked
			for c := range cells {
				for h := range c.members.all {
					if h == t.own || t.fleet.ended() {
						continue
					}
					g, r := t.judge(h)
					if g == Ready {
						good = append(good, r)
					} else {
						mine[g] = append(mine[g], h)
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			ready = append(ready, good...)
			for g, hosts := range mine {
				others[g] = append(others[g], hosts...)
			}
		})
	}
	for _, c := range t.fleet.cells {
		if c != nil {
			cells <- c
		}
	}
	close(cells)
	all.Wait()
	for _, hosts := range others {
		slices.SortFunc(hosts, func(a, b *host) int { return cmp.Compare(a.order, b.order) })
	}
	slices.SortFunc(ready, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.base, b.base), cmp.Compare(a.room, b.room), cmp.Compare(a.host.order, b.host.order))
	})
	return ready, others
}

// judge is the host's group: the worst of the devices', and full where they
// could go alone but not together.
func (t *together) judge(h *host) (Group, ranked) {
	worst := atReady
	for _, q := range t.kinds {
		c, _ := q.choose(h)
		worst = max(worst, c.group)
	}
	if worst != atReady {
		return worst.group(), ranked{}
	}
	offers, _ := t.fit(h)
	if offers == nil {
		return Full, ranked{}
	}
	r := ranked{host: h}
	for i, o := range offers {
		rank := t.fleet.rank(t.opts.Policy, t.each[i].class, &h.layout.offers[o], h.layout, h.rooms[o])
		r.base, r.room = max(r.base, rank>>32), r.room+rank&(1<<32-1)
	}
	return Ready, r
}

// fit assigns the devices to offers of a host, nil where that cannot be.
func (t *together) fit(h *host) ([]int, *space) {
	wishes := make([]wish, len(t.each))
	for i, q := range t.each {
		wishes[i] = t.fleet.wish(h, q.class, q.views[h.layout.id], t.opts.Policy)
	}
	s := newSpace(h)
	offers, ok := s.fit(wishes)
	if !ok {
		return nil, nil
	}
	return offers, s
}

// target answers for one host.
func (t *together) target(h *host, g Group) JointTarget {
	v := t.each[0].views[h.layout.id]
	answer := JointTarget{Group: g, Host: h.name, Ready: v.conditions, Places: []Place{}}
	if g == NotReporting {
		answer.Age = t.opts.tooOld(h.taken)
		answer.Reason = Reason{Group: g, Text: "the inventory is " + answer.Age + " old"}
		return answer
	}
	if g == Ready {
		offers, s := t.fit(h)
		answer.Estimate = s.mixed()
		back := compat.Compatible
		for i, q := range t.each {
			o := &h.layout.offers[offers[i]]
			verdict := q.verdict(h, o)
			answer.Places = append(answer.Places, Place{q.source.ID(), verdict.Parent, o.typ.TypeName, o.typ.Label, unpackRoom(h.rooms[offers[i]]), verdict})
			back = max(back, q.ways[o.offer.id].back)
		}
		answer.Return = &back
	}
	answer.Reason = t.reason(h, g)
	return answer
}

// reason is that of the first device that the group comes from.
func (t *together) reason(h *host, g Group) Reason {
	if g == NotReporting {
		return Reason{Group: g, Text: "the inventory is older than " + t.opts.MaxAge.String()}
	}
	for _, q := range t.kinds {
		if c, _ := q.choose(h); c.group.group() == g {
			return q.reason(h)
		}
	}
	return Reason{Group: g, Code: string(RoomJoint), Text: RoomJoint.Meaning()}
}
