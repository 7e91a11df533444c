// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"kindred/inventory"
)

// smallDrain is a question about a small fleet: which hosts to drain, whose
// devices are on them, and the limits.
type smallDrain struct {
	*small
	hosts []string
	opts  DrainOptions
	plain []*plainOwner // all owners
}

// plainOwner is an owner with its devices.
type plainOwner struct {
	name    string
	host    *inventory.Inventory
	devices []*inventory.Device
	apart   []string
	not     []string
	moves   bool // its host is drained
}

func newSmallDrain(seed uint64) *smallDrain {
	s := &smallDrain{small: newSmall(seed)}
	for i, inv := range s.inventories {
		drained := i == 0 || i < len(s.inventories)-1 && s.chance(3)
		if drained {
			s.hosts = append(s.hosts, inv.Host.Name)
		}
		for d := 0; d < len(inv.Devices); {
			n := min(1+s.r.IntN(2), len(inv.Devices)-d)
			o := &plainOwner{name: fmt.Sprintf("vm-%d-%d", i, d), host: inv, moves: drained}
			for k := range n {
				o.devices = append(o.devices, &inv.Devices[d+k])
			}
			if s.chance(3) {
				o.apart = []string{s.one("db", "web")}
			}
			if s.chance(6) {
				o.not = []string{s.inventories[s.r.IntN(len(s.inventories))].Host.Name}
			}
			if n == 1 && len(o.apart)+len(o.not) == 0 && s.chance(2) {
				o.name = inv.Host.Name + "/" + inv.Devices[d].ID // nobody named it
			} else {
				owner := Owner{Name: o.name, Apart: o.apart, Not: o.not}
				for _, device := range o.devices {
					owner.Devices = append(owner.Devices, device.ID)
				}
				s.opts.Owners = append(s.opts.Owners, owner)
			}
			s.plain = append(s.plain, o)
			d += n
		}
	}
	s.opts.Policy, s.opts.AtOnce, s.opts.Proven = Policies[s.r.IntN(len(Policies))], s.r.IntN(3), s.chance(6)
	some := func() string { return s.inventories[s.r.IntN(len(s.inventories))].Host.Name }
	if s.chance(8) {
		s.opts.Avoid = []string{some()}
	}
	if s.chance(4) {
		s.opts.First = []string{some()}
	}
	if s.chance(4) {
		s.opts.Labels = map[string][]string{some(): {s.one("db", "web")}}
	}
	return s
}

// refuses reports whether an owner may not be put on a host, whatever else is
// there.
func (s *smallDrain) refuses(o *plainOwner, host string) bool {
	return slices.Contains(s.hosts, host) || slices.Contains(s.opts.Avoid, host) || slices.Contains(o.not, host) ||
		slices.ContainsFunc(s.opts.Labels[host], func(l string) bool { return slices.Contains(o.apart, l) })
}

func apartFrom(a, b *plainOwner) bool {
	return slices.ContainsFunc(a.apart, func(l string) bool { return slices.Contains(b.apart, l) })
}

func (s *smallDrain) choices(o *plainOwner, to *inventory.Inventory) [][]plainPlace {
	var list [][]plainPlace
	for _, d := range o.devices {
		list = append(list, plainChoices(s.engine, o.host, d, to, s.opts.Proven))
	}
	return list
}

// replay carries a plan out move by move and says what is wrong with it. It
// knows what is on each host at every moment, and nothing of how plans are made.
func (s *smallDrain) replay(p *Plan) string {
	on := make(map[string][]*plainOwner) // owners by host
	at := make(map[string][][]plainPlace)
	owner := make(map[string]*plainOwner)
	moving := 0
	for _, o := range s.plain {
		on[o.host.Host.Name] = append(on[o.host.Host.Name], o)
		owner[o.name] = o
		if o.moves {
			moving++
		}
	}
	inStep := make(map[int]int)
	last := 1
	for _, m := range p.Moves {
		o := owner[m.Owner]
		if o == nil || !o.moves || m.From != o.host.Host.Name {
			return m.Owner + " is no owner on a drained host"
		}
		delete(owner, m.Owner) // once only
		if s.refuses(o, m.To) {
			return m.To + " is not to take " + m.Owner
		}
		i := slices.IndexFunc(s.inventories, func(inv *inventory.Inventory) bool { return inv.Host.Name == m.To })
		if i < 0 {
			return "no host " + m.To
		}
		if inStep[m.Step]++; s.opts.AtOnce > 0 && inStep[m.Step] > s.opts.AtOnce || m.Step < last || m.Step > p.Steps {
			return fmt.Sprintf("step %d has %d moves, after step %d", m.Step, inStep[m.Step], last)
		}
		last = m.Step
		for _, other := range on[m.To] {
			if apartFrom(o, other) {
				return fmt.Sprintf("%s is put beside %s", o.name, other.name)
			}
		}
		if len(m.Gets) != len(o.devices) {
			return fmt.Sprintf("%s has %d devices and gets %d", o.name, len(o.devices), len(m.Gets))
		}
		to := s.inventories[i]
		for _, g := range m.Gets {
			d := o.host.Device(g.Device)
			place := placeOf(to, g.Parent, g.Type)
			if d == nil || !slices.Contains(o.devices, d) || !slices.Contains(plainChoices(s.engine, o.host, d, to, s.opts.Proven), place) {
				return fmt.Sprintf("%s of %s does not go to %s %s", g.Device, o.name, g.Parent, g.Type.Full())
			}
			at[m.To] = append(at[m.To], []plainPlace{place})
		}
		if !plainFits(s.engine, to, at[m.To]) {
			return "there is no room on " + m.To + " for " + o.name
		}
		on[m.From] = slices.DeleteFunc(on[m.From], func(other *plainOwner) bool { return other == o })
		on[m.To] = append(on[m.To], o)
	}
	for _, stay := range p.Stays {
		o := owner[stay.Owner]
		if o == nil || !o.moves || len(stay.Devices) != len(o.devices) || stay.Detail == "" {
			return "what stays is told wrong: " + stay.Owner
		}
		delete(owner, stay.Owner)
	}
	for _, o := range owner {
		if o.moves {
			return o.name + " is forgotten"
		}
	}
	if p.Owners != moving || p.Moved != len(p.Moves) || p.Moved > p.Bound || p.Bound > p.Owners {
		return fmt.Sprintf("%d owners, %d moved, at most %d", p.Owners, p.Moved, p.Bound)
	}
	return ""
}

// optimum is the most owners that any plan moves, by trying every one.
func (s *smallDrain) optimum() int {
	var jobs []*plainOwner
	var targets []*inventory.Inventory
	for _, o := range s.plain {
		if o.moves {
			jobs = append(jobs, o)
		}
	}
	for _, inv := range s.inventories {
		if !slices.Contains(s.hosts, inv.Host.Name) {
			targets = append(targets, inv)
		}
	}
	placed := make([][]*plainOwner, len(targets))
	known := make(map[string]bool)
	fits := func(t int) bool {
		key := fmt.Sprint(t)
		for _, o := range placed[t] {
			key += " " + o.name
		}
		ok, seen := known[key]
		if !seen {
			var all [][]plainPlace
			for _, o := range placed[t] {
				all = append(all, s.choices(o, targets[t])...)
			}
			ok = plainFits(s.engine, targets[t], all)
			known[key] = ok
		}
		return ok
	}
	best := 0
	var try func(n, moved int)
	try = func(n, moved int) {
		best = max(best, moved)
		if n == len(jobs) || moved+len(jobs)-n <= best {
			return
		}
		for t := range targets {
			beside := slices.Clone(placed[t])
			for _, o := range s.plain {
				if o.host == targets[t] {
					beside = append(beside, o)
				}
			}
			if s.refuses(jobs[n], targets[t].Host.Name) || slices.ContainsFunc(beside, func(o *plainOwner) bool { return apartFrom(o, jobs[n]) }) {
				continue
			}
			placed[t] = append(placed[t], jobs[n])
			if fits(t) {
				try(n+1, moved+1)
			}
			placed[t] = placed[t][:len(placed[t])-1]
		}
		try(n+1, moved)
	}
	try(0, 0)
	return best
}

// TestDrainOracle: no plan breaks a constraint, plans move as many owners as
// any does in 99 of 100 fleets, and no bound is below what is possible.
func TestDrainOracle(t *testing.T) {
	fleets, owners, moved, less, tight := 0, 0, 0, 0, 0
	for seed := range uint64(*smallFleets) {
		s := newSmallDrain(seed)
		p, err := s.fleet().Drain(s.hosts, s.opts)
		if err != nil {
			t.Fatal(err)
		}
		if wrong := s.replay(p); wrong != "" {
			t.Fatalf("seed %d: %s\n%+v", seed, wrong, p)
		}
		best := s.optimum()
		if p.Bound < best || p.Moved > best {
			t.Fatalf("seed %d: moved %d, bound %d, and the optimum is %d", seed, p.Moved, p.Bound, best)
		}
		fleets++
		owners += p.Owners
		moved += p.Moved
		if p.Moved < best {
			less++
			t.Logf("seed %d: %d of %d, and %d are possible", seed, p.Moved, p.Owners, best)
		}
		if p.Bound == best {
			tight++
		}
	}
	t.Logf("%d fleets, %d owners, %d moved; fewer than possible in %d; the bound is exact in %d", fleets, owners, moved, less, tight)
	if less*100 > fleets || moved == 0 || moved == owners {
		t.Error("too many plans move fewer than possible, or the fleets show nothing")
	}
}

// TestDrainWithoutSearch: what improving by search alone finds, since larger
// fleets have no more than that.
func TestDrainWithoutSearch(t *testing.T) {
	less := 0
	for seed := range uint64(*smallFleets) {
		s := newSmallDrain(seed)
		f := s.fleet()
		p, err := f.packing(s.hosts, s.opts)
		if err != nil {
			t.Fatal(err)
		}
		p.greedy()
		p.tries = improveTries + improveEach*len(p.jobs)
		for _, j := range p.jobs {
			if j.to == nil {
				p.squeeze(j, improveDepth, make(map[*host]bool))
			}
		}
		plan := p.plan(s.hosts)
		if wrong := s.replay(plan); wrong != "" {
			t.Fatalf("seed %d: %s", seed, wrong)
		}
		best := s.optimum()
		if plan.Bound < best {
			t.Fatalf("seed %d: bound %d, and the optimum is %d", seed, plan.Bound, best)
		}
		if plan.Moved < best {
			less++
		}
	}
	t.Logf("fewer than possible in %d of %d", less, *smallFleets)
	if less*100 > *smallFleets {
		t.Error("too many")
	}
}

func TestDrainQuestions(t *testing.T) {
	one, two := newHost("h0", newType("t", "5", 1)), newHost("h1", newType("t", "5", 1))
	one.Devices[0].ID, two.Devices[0].ID = "device-of-h0", "device-of-h1"
	on := []string{one.Devices[0].ID, two.Devices[0].ID}
	f, err := New(newEngine(t), []*inventory.Inventory{one, two})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		hosts  []string
		owners []Owner
		code   ErrorCode
	}{
		"no such host":   {[]string{"nowhere"}, nil, NotFound},
		"twice":          {[]string{"h0", "h0"}, nil, Ambiguous},
		"no such device": {[]string{"h0"}, []Owner{{Name: "a", Devices: []string{"nothing"}}}, NotFound},
		"nameless":       {[]string{"h0"}, []Owner{{Devices: on[:1]}}, Ambiguous},
		"named twice":    {[]string{"h0"}, []Owner{{Name: "a"}, {Name: "a"}}, Ambiguous},
		"two owners":     {[]string{"h0"}, []Owner{{Name: "a", Devices: on[:1]}, {Name: "b", Devices: on[:1]}}, Ambiguous},
		"on two hosts":   {[]string{"h0"}, []Owner{{Name: "a", Devices: on[:2]}}, Apart},
	} {
		_, err := f.Drain(c.hosts, DrainOptions{Owners: c.owners})
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
}

// TestDrainNamedOnly: devices that nobody named stay untold where only named
// owners are asked for, and functions that nobody uses have no owner at all.
func TestDrainNamedOnly(t *testing.T) {
	one, two := newHost("h0", newType("t", "5", 4)), newHost("h1", newType("t", "5", 4))
	for i, id := range []string{"named-device", "other-device", "idle-function", "busy-function"} {
		d := one.Devices[0]
		d.ID = id
		if i > 1 {
			d.Kind, d.InUse = inventory.VF, map[int]inventory.Answer{2: inventory.No, 3: inventory.Yes}[i]
		}
		one.Devices = append(one.Devices, d)
	}
	one.Devices, two.Devices = one.Devices[1:], nil
	f, err := New(newEngine(t), []*inventory.Inventory{one, two})
	if err != nil {
		t.Fatal(err)
	}
	owners := []Owner{{Name: "vm", Devices: []string{"named-device"}}}
	for _, c := range []struct {
		only bool
		want string
	}{{true, "[vm]"}, {false, "[h0/busy-function h0/other-device vm]"}} {
		plan, err := f.Drain([]string{"h0"}, DrainOptions{Owners: owners, NamedOnly: c.only})
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, m := range plan.Moves {
			told = append(told, m.Owner)
		}
		for _, s := range plan.Stays {
			told = append(told, s.Owner)
		}
		slices.Sort(told)
		if fmt.Sprint(told) != c.want {
			t.Errorf("named only %v: %v, want %s", c.only, told, c.want)
		}
	}
}
