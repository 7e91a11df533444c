// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"kindred/compat"
	"kindred/inventory"
)

// smallFleets is how many small fleets each test of the answers draws.
var smallFleets = flag.Int("fleets", 1000, "how many small fleets to compare on")

// everyDevice calls yield for the devices of a small fleet.
func (s *small) everyDevice(yield func(inv *inventory.Inventory, d *inventory.Device)) {
	for _, inv := range s.inventories {
		for i := range inv.Devices {
			yield(inv, &inv.Devices[i])
		}
	}
}

// TestTargetsOracle: counts, order, choice and way back of every host are those
// found in the plain way, under every policy and limit.
func TestTargetsOracle(t *testing.T) {
	seen := make(map[Group]int)
	for seed := range uint64(*smallFleets) {
		s := newSmall(seed)
		f := s.fleet()
		policy := Policies[seed%uint64(len(Policies))]
		limit := s.r.IntN(6)
		s.everyDevice(func(inv *inventory.Inventory, d *inventory.Device) {
			var want []plainTarget
			counts := make(map[Group]int)
			for _, to := range s.inventories {
				if to != inv {
					w := plainTargetOf(s.engine, inv, d, to, policy)
					want = append(want, w)
					counts[w.group]++
					seen[w.group]++
				}
			}
			slices.SortStableFunc(want, func(a, b plainTarget) int {
				if ga, gb := slices.Index(Groups, a.group), slices.Index(Groups, b.group); ga != gb {
					return ga - gb
				}
				return slices.Compare(a.key[:], b.key[:])
			})
			if limit > 0 {
				want = want[:min(limit, len(want))]
			}
			source, err := f.Source(inv.Host.Name + "/" + d.ID)
			if err != nil {
				t.Fatal(err)
			}
			got := f.Targets(source, Options{Policy: policy, Limit: limit, Reasons: true})
			for _, g := range Groups {
				if got.Counts[g] != counts[g] {
					t.Fatalf("seed %d, %s: %d hosts are %s, want %d", seed, d.ID, got.Counts[g], g, counts[g])
				}
			}
			byReason := make(map[Group]int)
			for _, r := range got.Reasons {
				byReason[r.Group] += r.Hosts
			}
			if !maps.Equal(byReason, counts) {
				t.Fatalf("seed %d, %s: reasons of %v, want %v", seed, d.ID, byReason, counts)
			}
			if len(got.Hosts) != len(want) {
				t.Fatalf("seed %d, %s: %d hosts, want %d", seed, d.ID, len(got.Hosts), len(want))
			}
			for i, w := range want {
				g := &got.Hosts[i]
				if g.Host != w.host || g.Group != w.group || g.Parent != w.parent || g.Type != w.typ || g.Return != nil && *g.Return != w.back {
					t.Fatalf("seed %d, %s by %s: host %d is %s %s %s %s, want %+v", seed, d.ID, policy, i, g.Host, g.Group, g.Parent, g.Type.Full(), w)
				}
			}
		})
	}
	t.Log(seen)
}

// TestJointOracle: a host is ready for several devices exactly when some
// assignment of them has room, and the answer's own assignment has.
func TestJointOracle(t *testing.T) {
	ready, full := 0, 0
	for seed := range uint64(*smallFleets) {
		s := newSmall(seed)
		f := s.fleet()
		for _, inv := range s.inventories {
			var sources []*Source
			for i := range inv.Devices {
				source, err := f.Source(inv.Host.Name + "/" + inv.Devices[i].ID)
				if err != nil {
					t.Fatal(err)
				}
				sources = append(sources, source)
			}
			if len(sources) == 0 {
				continue
			}
			answer, err := f.Joint(sources, Options{Policy: Policies[seed%uint64(len(Policies))]})
			if err != nil {
				t.Fatal(err)
			}
			if len(answer.Hosts) != len(s.inventories)-1 {
				t.Fatalf("seed %d: %d hosts", seed, len(answer.Hosts))
			}
			for _, target := range answer.Hosts {
				to := s.inventories[slices.IndexFunc(s.inventories, func(i *inventory.Inventory) bool { return i.Host.Name == target.Host })]
				want := Ready
				var choices [][]plainPlace
				for i := range inv.Devices {
					g := plainTargetOf(s.engine, inv, &inv.Devices[i], to, ByName).group
					if slices.Index(Groups, g) > slices.Index(Groups, want) {
						want = g
					}
					choices = append(choices, plainChoices(s.engine, inv, &inv.Devices[i], to, false))
				}
				if want == Ready && !plainFits(s.engine, to, choices) {
					want = Full
				}
				if target.Group != want {
					t.Fatalf("seed %d: %s for %d devices of %s is %s, want %s", seed, target.Host, len(sources), inv.Host.Name, target.Group, want)
				}
				switch want {
				case Full:
					full++
				case Ready:
					ready++
					if err := s.placed(to, inv, target.Places, false); err != "" {
						t.Fatalf("seed %d: %s for %s: %s", seed, target.Host, inv.Host.Name, err)
					}
				}
			}
		}
	}
	if t.Logf("%d ready, %d full", ready, full); ready == 0 || full == 0 {
		t.Error("the fleets are too plain to show anything")
	}
}

// placed checks an assignment: each device on an allowed place, all together
// with room.
func (s *small) placed(to, from *inventory.Inventory, places []Place, proven bool) string {
	if len(places) != len(from.Devices) {
		return fmt.Sprintf("%d places for %d devices", len(places), len(from.Devices))
	}
	var choices [][]plainPlace
	for i := range places {
		d := from.Device(places[i].Device)
		if d == nil {
			return "no device " + places[i].Device
		}
		p := placeOf(to, places[i].Parent, places[i].Type)
		if !slices.Contains(plainChoices(s.engine, from, d, to, proven), p) {
			return fmt.Sprintf("%s does not go to %s %s", d.ID, places[i].Parent, places[i].Type.Full())
		}
		choices = append(choices, []plainPlace{p})
	}
	if !plainFits(s.engine, to, choices) {
		return "no room for all"
	}
	return ""
}

func placeOf(to *inventory.Inventory, parent string, typ inventory.TypeName) plainPlace {
	i := slices.IndexFunc(to.Parents, func(p inventory.Parent) bool { return p.Name == parent })
	if i < 0 {
		return plainPlace{-1, -1}
	}
	return plainPlace{i, slices.IndexFunc(to.Parents[i].Types, func(t inventory.Type) bool { return t.TypeName == typ })}
}

// plainReach is how many hosts of each group a device has, and its ways by
// class of the offers.
type plainReach struct {
	groups map[Group]int
	ways   map[Way]int
}

func (s *small) plainReach(e *compat.Engine, inventories []*inventory.Inventory, inv *inventory.Inventory, d *inventory.Device) plainReach {
	r := plainReach{make(map[Group]int), make(map[Way]int)}
	byClass := make(map[compat.Class]*Way)
	source := e.Source(inv, d)
	for _, to := range inventories {
		if to == inv {
			continue
		}
		group := plainTargetOf(e, inv, d, to, ByName).group
		r.groups[group]++
		if group != Ready {
			continue
		}
		here := make(map[compat.Class]bool)
		for _, p := range plainOffers(e, source, to) {
			if p.group(plainReady(inv, to)) != Ready {
				continue
			}
			class := e.OfferClass(p.offer)
			w := byClass[class]
			if w == nil {
				back := compat.Unknown
				if home := e.Home(source); home != nil {
					back = e.Outcome(e.Arrived(source, p.offer), home)
				}
				w = &Way{Type: p.typ.TypeName, Build: p.offer.Build().Short(), Return: back}
				byClass[class] = w
			}
			w.Room += p.certain
			if !here[class] {
				here[class] = true
				w.Hosts++
			}
		}
	}
	for _, w := range byClass {
		r.ways[*w]++
	}
	return r
}

// TestReachOracle: every device's hosts by group, its ways with hosts and room
// and their way back, the stranded and those one host from it.
func TestReachOracle(t *testing.T) {
	stranded, one := 0, 0
	for seed := range uint64(*smallFleets) {
		s := newSmall(seed)
		got := s.fleet().Reach(true)
		each := make(map[string]DeviceReach)
		for _, d := range got.Each {
			each[d.Device] = d
		}
		s.everyDevice(func(inv *inventory.Inventory, d *inventory.Device) {
			want := s.plainReach(s.engine, s.inventories, inv, d)
			g := each[d.ID]
			if g.Host != inv.Host.Name || g.Ready != want.groups[Ready] || g.Full != want.groups[Full] || g.Unknown != want.groups[Unsettled] {
				t.Fatalf("seed %d: %s: %+v, want %v", seed, d.ID, g, want.groups)
			}
			ways := make(map[Way]int)
			for _, w := range g.Ways {
				ways[w]++
			}
			if !maps.Equal(ways, want.ways) {
				t.Fatalf("seed %d: %s goes %v, want %v", seed, d.ID, ways, want.ways)
			}
			for n, list := range [][]DeviceReach{got.Stranded, got.OneLeft} {
				if told := slices.ContainsFunc(list, func(r DeviceReach) bool { return r.Device == d.ID }); told != (want.groups[Ready] == n) {
					t.Fatalf("seed %d: %s has %d hosts, and is told among those with %d: %v", seed, d.ID, want.groups[Ready], n, told)
				}
			}
			switch want.groups[Ready] {
			case 0:
				stranded++
			case 1:
				one++
			}
		})
	}
	t.Logf("%d stranded, %d one host from it", stranded, one)
}

// TestChoicesOracle: what a type reaches is what a device of it would, made on
// the host where it reaches furthest.
func TestChoicesOracle(t *testing.T) {
	for seed := range uint64(*smallFleets / 4) {
		s := newSmall(seed)
		got := s.fleet().Choices()
		type sums struct{ create, room, reach, least int }
		want := make(map[inventory.TypeName]*sums)
		for _, inv := range s.inventories {
			seen := make(map[inventory.TypeName]bool)
			for _, o := range s.engine.Offers(inv) {
				source := s.engine.Instance(o)
				p := plainOffers(s.engine, source, &inventory.Inventory{Host: inv.Host, Modules: inv.Modules, Parents: []inventory.Parent{*inv.Parent(o.Parent())}})
				self := p[slices.IndexFunc(p, func(p plainOffer) bool { return p.typ.TypeName == o.Type().TypeName })]
				if !self.free {
					continue
				}
				name := o.Type().TypeName
				reach := 0
				for _, to := range s.inventories {
					if to != inv && slices.ContainsFunc(plainOffers(s.engine, source, to), func(p plainOffer) bool { return p.group(plainReady(inv, to)) == Ready }) {
						reach++
					}
				}
				if want[name] == nil {
					want[name] = &sums{least: 1 << 30}
				}
				w := want[name]
				w.room += self.certain
				w.reach, w.least = max(w.reach, reach), min(w.least, reach)
				if !seen[name] {
					w.create++
					seen[name] = true
				}
			}
		}
		if len(got.Types) != len(want) {
			t.Fatalf("seed %d: %d types, want %d", seed, len(got.Types), len(want))
		}
		for _, c := range got.Types {
			if w := want[c.Type]; c.Create != w.create || c.Room != w.room || c.Reach != w.reach || c.Least != w.least || c.Lost != got.Types[0].Reach-c.Reach {
				t.Fatalf("seed %d: %s: %+v, want %+v", seed, c.Type.Full(), c, *w)
			}
		}
	}
}

// TestIndexOracle: an index that took news one by one answers as one that was
// built of the same hosts, and older fleets answer as they did.
func TestIndexOracle(t *testing.T) {
	for seed := range uint64(*smallFleets / 10) {
		s := newSmall(seed)
		x := NewIndex(s.engine)
		put := func(inv *inventory.Inventory) {
			static, own := inventory.Split(inv)
			digest, err := x.Static(static)
			if err != nil {
				t.Fatal(err)
			}
			if own.Static = digest; x.Put(own) != nil {
				t.Fatal(x.Put(own))
			}
		}
		for _, inv := range s.inventories {
			put(inv)
		}
		var fleets []*Fleet
		var texts []string
		for range 12 {
			fleets, texts = append(fleets, x.Fleet()), append(texts, answers(x.Fleet()))
			i := s.r.IntN(len(s.inventories))
			switch s.r.IntN(5) {
			case 0:
				x.Remove(s.inventories[i].Host.Name)
				if s.inventories = slices.Delete(s.inventories, i, i+1); len(s.inventories) == 0 {
					s.inventories = append(s.inventories, s.host(7))
					put(s.inventories[0])
				}
			case 1:
				inv := s.host(s.r.IntN(40))
				s.inventories = slices.DeleteFunc(s.inventories, func(o *inventory.Inventory) bool { return o.Host.Name == inv.Host.Name })
				s.inventories = append(s.inventories, inv)
				put(inv)
			default: // other counters, and perhaps one device less
				old := *s.inventories[i]
				inv := &old
				inv.Taken = inv.Taken.Add(time.Minute)
				inv.Parents = slices.Clone(inv.Parents)
				for p := range inv.Parents {
					inv.Parents[p].Types = slices.Clone(inv.Parents[p].Types)
					for j := range inv.Parents[p].Types {
						if s.chance(2) {
							inv.Parents[p].Types[j].Available = new(s.r.IntN(4))
						}
					}
				}
				if len(inv.Devices) > 0 && s.chance(2) {
					inv.Devices = inv.Devices[1:]
				}
				s.inventories[i] = inv
				put(inv)
			}
			if got, want := answers(x.Fleet()), answers(s.fleet()); got != want {
				t.Fatalf("seed %d:\n%s\nwant\n%s", seed, got, want)
			}
		}
		for i := range fleets {
			if got := answers(fleets[i]); got != texts[i] {
				t.Fatalf("seed %d: an older fleet answers\n%s\nit was\n%s", seed, got, texts[i])
			}
		}
	}
}

// answers are all targets of all devices under all policies, as text.
func answers(f *Fleet) string {
	text := ""
	for h := range f.hosts.all {
		for at := range h.devices {
			for _, policy := range Policies {
				a := f.Targets(&Source{h, at}, Options{Policy: policy, Limit: 3})
				text += fmt.Sprintf("%s/%s %s %v:", h.name, h.devices[at].id, policy, a.Counts)
				for _, target := range a.Hosts {
					text += fmt.Sprintf(" %s %s %s %s", target.Host, target.Group, target.Parent, target.Type.Name)
				}
				text += "\n"
			}
			source, err := f.Source(h.devices[at].id)
			if err != nil || source.host != h || source.at != at {
				text += fmt.Sprint("not found: ", err)
			}
		}
	}
	return text
}
