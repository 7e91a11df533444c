// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"maps"
	"slices"

	"kindred/compat"
	"kindred/inventory"
)

// Rollout drains hosts a few at a time, as an upgrade of all of them does: a
// host that was emptied is changed, and then takes owners again.
type Rollout struct {
	Simulated bool     `json:"simulated,omitempty"` // some of these hosts do not exist
	Changes   []string `json:"changes"`             // to each host, once it is empty
	Waves     []*Plan  `json:"waves"`               // one after the other
	Upgraded  int      `json:"upgraded"`            // hosts that were emptied
	Kept      []string `json:"kept"`                // hosts that were not
	Moves     int      `json:"moves"`
	Owned     bool     `json:"owned"` // owners were given; else each device was taken for one
}

// Rolling plans a rollout over hosts, in their order, so many in each wave.
// Owners are put on hosts that are done where that is possible, so that they
// need not move twice. A host that cannot be emptied is kept as it is.
func (f *Fleet) Rolling(hosts []string, size int, changes []Change, opts DrainOptions) (*Rollout, error) {
	return f.rolling(hosts, size, changes, opts, func(*Fleet, *Plan) {})
}

// rolling calls each with every wave's plan and the fleet it was made for.
func (f *Fleet) rolling(hosts []string, size int, changes []Change, opts DrainOptions, each func(*Fleet, *Plan)) (*Rollout, error) {
	r := &Rollout{Simulated: f.simulated > 0, Changes: []string{}, Waves: []*Plan{}, Kept: []string{}, Owned: len(opts.Owners) > 0}
	for _, c := range changes {
		r.Changes = append(r.Changes, c.String())
	}
	// Every device gets an owner by name, whom its moves do not change.
	p, err := f.packing(hosts, opts)
	if err != nil {
		return nil, err
	}
	opts.Owners = slices.Clone(opts.Owners)
	for _, j := range p.jobs {
		if !slices.ContainsFunc(opts.Owners, func(o Owner) bool { return o.Name == j.name }) {
			opts.Owners = append(opts.Owners, Owner{Name: j.name, Devices: []string{j.name}})
		}
	}
	done := make(map[string]bool)
	for wave := range slices.Chunk(hosts, max(size, 1)) {
		if f.ended() {
			break
		}
		p, err := f.packing(wave, opts)
		if err != nil {
			return nil, err
		}
		p.first = done
		p.greedy()
		p.improve()
		plan := p.plan(wave)
		plan.Owned = r.Owned
		r.Waves = append(r.Waves, plan)
		r.Moves += plan.Moved
		each(f, plan)
		if f, err = f.after(p, opts.Owners); err != nil {
			return nil, err
		}
		kept := make(map[string]bool)
		for _, s := range plan.Stays {
			kept[s.Host] = true
		}
		r.Kept = append(r.Kept, slices.Sorted(maps.Keys(kept))...)
		for _, name := range wave {
			if kept[name] {
				continue
			}
			done[name] = true
			r.Upgraded++
		}
		if f, err = f.upgraded(wave, kept, changes); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// upgraded is the fleet with the changes to the hosts of a wave that are not
// kept.
func (f *Fleet) upgraded(wave []string, kept map[string]bool, changes []Change) (*Fleet, error) {
	var news []*host
	for _, name := range wave {
		h := f.host(name)
		for _, c := range changes {
			if kept[name] || !matches(c.Hosts, name) {
				continue
			}
			m, err := f.kinds.changedMake(h.make, c)
			if err != nil {
				return nil, err
			}
			if m == nil {
				continue
			}
			f.kinds.mu.Lock()
			h, err = f.kinds.remade(h, m)
			f.kinds.mu.Unlock()
			if err != nil {
				return nil, err
			}
		}
		news = append(news, h)
	}
	return f.with(news, nil), nil
}

// after is the fleet once a plan was carried out. The owners' devices are named
// by where they are then.
func (f *Fleet) after(p *packing, owners []Owner) (*Fleet, error) {
	next := make(map[*host]*host)
	changed := func(h *host) *host {
		if next[h] == nil {
			c := *h
			c.rooms, c.devices = slices.Clone(h.rooms), slices.Clone(h.devices)
			next[h] = &c
		}
		return next[h]
	}
	byName := make(map[string]int, len(owners))
	for i := range owners {
		byName[owners[i].Name] = i
	}
	left := make(map[*host]*space) // of the drained hosts
	for _, j := range p.jobs {
		if j.to == nil {
			continue
		}
		from, to := changed(j.from), changed(j.to)
		if left[j.from] == nil {
			left[j.from] = newSpace(j.from)
		}
		owner := &owners[byName[j.name]]
		owner.Devices = nil
		for i, at := range j.at {
			d := j.from.devices[at]
			from.devices = slices.DeleteFunc(from.devices, func(o device) bool { return o.id == d.id })
			if d.typ >= 0 {
				l, t := left[j.from].left(d.typ)
				l.Give(t)
			}
			arrived, err := f.arrived(j, d, j.offers[i])
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(to.devices, func(o device) bool { return o.id == arrived.id }) {
				arrived.id = j.from.name + "~" + arrived.id // the target has one that is called so
			}
			to.devices = append(to.devices, arrived)
			owner.Devices = append(owner.Devices, to.name+"/"+arrived.id)
		}
	}
	for h, s := range left {
		s.write(next[h])
	}
	for h, s := range p.spaces {
		if len(p.placed[h]) > 0 {
			s.write(next[h])
		}
	}
	return f.with(slices.Collect(maps.Values(next)), nil), nil
}

// arrived is a device on its new host.
func (f *Fleet) arrived(j *job, d device, offer int) (device, error) {
	o := &j.to.layout.offers[offer]
	moved := d.content.device
	moved.Type, moved.Migration = o.typ.TypeName, nil
	if v := f.kinds.verdict(d.class.source, o.offer); v.Outcome == compat.Compatible && len(v.Copy) > 0 {
		moved.Attributes = inventory.Attributes{Values: maps.Clone(moved.Attributes.Values), Unread: moved.Attributes.Unread, Complete: moved.Attributes.Complete}
		for name, text := range v.Copy {
			moved.Attributes.Set(name, text)
		}
	}
	parent := j.to.layout.parents[o.parent].name
	moved.Parent = parent
	f.kinds.mu.Lock()
	defer f.kinds.mu.Unlock()
	c, class, err := f.kinds.device(j.to.make, &moved)
	if err != nil {
		return device{}, err
	}
	return newDevice(j.to.make, d.id, parent, d.use, c, class), nil
}

// write makes a host's rooms what is left.
func (s *space) write(h *host) {
	for p, l := range s.lefts {
		if l == nil {
			continue
		}
		parent := &h.layout.parents[p]
		for t := range parent.count {
			switch was, n := h.rooms[parent.first+t], l.Room(t); {
			case n > 0:
				h.rooms[parent.first+t] = int32(n)
			case certain(was) == 0: // as it was: full, or not known
			case was == roomFree:
				h.rooms[parent.first+t] = roomUnknown
			default:
				h.rooms[parent.first+t] = 0
			}
		}
	}
}
