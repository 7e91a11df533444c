// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"slices"
	"testing"

	"kindred/compat"
	"kindred/inventory"
)

// whole is a host of a fleet as an inventory again.
func (h *host) whole() *inventory.Inventory {
	own := &inventory.Own{Host: h.name, Origin: h.origin, Taken: h.taken}
	for _, at := range h.make.place {
		available, creatable := -1, byte('?')
		switch room := unpackRoom(h.rooms[at]); {
		case room.Count != nil:
			available = *room.Count
			creatable = "ny"[min(available, 1)]
		case room.Code == RoomFree:
			creatable = 'y'
		case room.Code == RoomFull:
			creatable = 'n'
		}
		if h.rooms[at] < roomUnknown {
			creatable = 'n'
		}
		own.Available = append(own.Available, available)
		own.Creatable += string(creatable)
	}
	for i := range h.devices {
		d := h.devices[i].content.device
		d.ID, d.Parent, d.InUse = h.devices[i].id, h.layout.parents[h.devices[i].parent].name, h.devices[i].use
		own.Devices = append(own.Devices, d)
	}
	return inventory.Join(h.make.static, own)
}

// left is what a parent's kernel shows to be left of a pool, in units.
func left(pool *compat.Pool, p *inventory.Parent) int {
	most := 0
	for i := range p.Types {
		if t := &p.Types[i]; t.Available != nil && t.Creatable != inventory.No {
			most = max(most, *t.Available*unitsOf(pool, t.Name))
		} else if t.Creatable == inventory.Yes {
			most = max(most, unitsOf(pool, t.Name))
		}
	}
	return most
}

func unitsOf(pool *compat.Pool, name string) int {
	for _, take := range pool.Takes {
		if take.Types == "" || take.Types == name {
			return take.Units
		}
	}
	return 0
}

// TestRolling: the plan of every wave holds on the hosts as they are then; no
// device is lost or doubled on the way, and no pool has more than was there
// and came free.
func TestRolling(t *testing.T) {
	moves, kept, upgraded, second := 0, 0, 0, 0
	for seed := range uint64(*smallFleets) {
		s := newSmallDrain(seed)
		change := Change{Kind: SetKernel, Value: "6.13.0"}
		if s.chance(2) {
			change = Change{Kind: SetBuild, Name: "m", Value: s.one("b1", "b2")}
		}
		var names []string
		for _, inv := range s.inventories {
			names = append(names, inv.Host.Name)
		}
		size := 1 + s.r.IntN(2)
		now := *s
		var before []*inventory.Inventory
		var last *Plan
		moved := make(map[string]bool)
		r, err := s.fleet().rolling(names, size, []Change{change}, s.opts, func(f *Fleet, p *Plan) {
			now.inventories = nil
			for h := range f.hosts.all {
				now.inventories = append(now.inventories, h.whole())
			}
			if before != nil {
				s.transition(t, seed, before, now.inventories, last)
			}
			before, last = now.inventories, p
			now.hosts, now.plain = p.Hosts, nil
			for _, o := range s.plain { // where they are now
				next := *o
				for _, inv := range now.inventories {
					if inv.Device(o.devices[0].ID) != nil {
						next.host, next.moves, next.devices = inv, slices.Contains(p.Hosts, inv.Host.Name), nil
						for _, d := range o.devices {
							if device := inv.Device(d.ID); device != nil {
								next.devices = append(next.devices, device)
							}
						}
					}
				}
				if len(next.devices) != len(o.devices) {
					t.Fatalf("seed %d: %s has %d devices of %d", seed, o.name, len(next.devices), len(o.devices))
				}
				now.plain = append(now.plain, &next)
			}
			if wrong := now.replay(p); wrong != "" {
				t.Fatalf("seed %d: %s\n%+v", seed, wrong, p)
			}
			for _, m := range p.Moves {
				if moved[m.Owner] {
					second++
				}
				moved[m.Owner] = true
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if r.Upgraded+len(r.Kept) != len(names) {
			t.Fatalf("seed %d: %d upgraded and %d kept of %d", seed, r.Upgraded, len(r.Kept), len(names))
		}
		moves += r.Moves
		kept += len(r.Kept)
		upgraded += r.Upgraded
	}
	t.Logf("%d moves, %d of them not the owner's first; %d hosts upgraded, %d kept", moves, second, upgraded, kept)
	if min(moves, second, kept, upgraded) == 0 {
		t.Error("the fleets are too plain to show anything")
	}
}

// transition compares the hosts before and after a wave's plan.
func (s *small) transition(t *testing.T, seed uint64, before, after []*inventory.Inventory, p *Plan) {
	for i, was := range before {
		is := after[i]
		for k := range was.Parents {
			c := s.engine.Capacity(was.Parents[k].Namespace)
			if c == nil || c.Model != compat.SharedPools {
				continue
			}
			for n := range c.Pools {
				pool := &c.Pools[n]
				limit := left(pool, &was.Parents[k])
				for _, m := range p.Moves {
					for _, g := range m.Gets {
						if m.To == was.Host.Name && g.Parent == was.Parents[k].Name {
							limit -= unitsOf(pool, g.Type.Name)
						}
						if d := was.Device(g.Device); d != nil && d.Parent == was.Parents[k].Name {
							limit += unitsOf(pool, d.Type.Name)
						}
					}
				}
				if got := left(pool, &is.Parents[k]); got > limit {
					t.Fatalf("seed %d: %s %s has %d units of %s, and there are %d", seed, is.Host.Name, is.Parents[k].Name, got, pool.Name, limit)
				}
			}
		}
	}
}
