// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindred/compat"
	"kindred/inventory"
)

// plainChange is a change made to the inventories themselves.
func (s *small) plainChange(c Change) []*inventory.Inventory {
	var list []*inventory.Inventory
	for _, inv := range s.inventories {
		hit := matches(c.Hosts, inv.Host.Name)
		if hit && c.Kind == RemoveHost {
			continue
		}
		if !hit {
			list = append(list, inv)
			continue
		}
		next := *inv
		switch c.Kind {
		case SetBuild:
			next.Modules = []inventory.Module{{Name: "m", BuildID: inventory.Of(c.Value)}}
		case SetKernel:
			next.Host.Kernel.Release = inventory.Of(c.Value)
		case SetFact:
			next.Host.Facts = inventory.Facts{c.Name: {Value: inventory.Of(c.Value), Source: "supposed"}}
		case RemoveParent:
			next.Parents, next.Devices = nil, nil
			for _, p := range inv.Parents {
				if !matches(c.Parent, p.Name) {
					next.Parents = append(next.Parents, p)
				}
			}
			for _, d := range inv.Devices {
				if !matches(c.Parent, d.Parent) {
					next.Devices = append(next.Devices, d)
				}
			}
		}
		list = append(list, &next)
	}
	return list
}

func (s *small) change() Change {
	hosts := s.one("h0", "h[12]", "*")
	switch s.r.IntN(5) {
	case 0:
		return Change{Kind: SetBuild, Hosts: hosts, Name: "m", Value: s.one("b1", "b2", "b9")}
	case 1:
		return Change{Kind: SetKernel, Hosts: hosts, Value: "6.13.0"}
	case 2:
		return Change{Kind: SetFact, Hosts: hosts, Name: "f", Value: "1"}
	case 3:
		return Change{Kind: RemoveHost, Hosts: s.one("h0", "h[12]")}
	}
	return Change{Kind: RemoveParent, Hosts: hosts, Parent: "p0"}
}

// TestWhatIfOracle: what is stranded and freed is what the plain way finds in
// inventories that were changed themselves; canaries settle every unknown that
// a proof can settle, none is too many, and the fewest that are enough are.
func TestWhatIfOracle(t *testing.T) {
	stranded, freed, canaries, enough := 0, 0, 0, 0
	for seed := range uint64(*smallFleets) {
		s := newSmall(seed)
		c := s.change()
		changed := s.plainChange(c)
		after := s.engine
		supposed := Supposition{Changes: []Change{c}}
		if s.chance(3) { // without any proof
			after = compat.NewEngine(s.catalogs, nil)
			supposed.Engine = after
		}
		got, err := s.fleet().WhatIf(supposed)
		if e, ok := errors.AsType[*Error](err); ok && e.Code == NotFound && len(changed) == len(s.inventories) {
			continue // nothing there to change
		} else if err != nil {
			t.Fatal(err)
		}
		want := make(map[string]string)
		s.everyDevice(func(inv *inventory.Inventory, d *inventory.Device) {
			i := slices.IndexFunc(changed, func(o *inventory.Inventory) bool { return o.Host.Name == inv.Host.Name })
			if i < 0 || changed[i].Device(d.ID) == nil {
				want[d.ID] = "gone"
				return
			}
			was := s.plainReach(s.engine, s.inventories, inv, d).groups[Ready]
			is := s.plainReach(after, changed, changed[i], changed[i].Device(d.ID)).groups[Ready]
			switch {
			case was > 0 && is == 0:
				want[d.ID] = fmt.Sprint("stranded ", was, is)
				stranded++
			case was == 0 && is > 0:
				want[d.ID] = fmt.Sprint("freed ", was, is)
				freed++
			}
		})
		told := make(map[string]string)
		for _, d := range got.Stranded {
			told[d.Device] = fmt.Sprint("stranded ", d.Ready[0], d.Ready[1])
		}
		for _, d := range got.Freed {
			told[d.Device] = fmt.Sprint("freed ", d.Ready[0], d.Ready[1])
		}
		for _, ref := range got.Gone {
			told[ref[3:]] = "gone"
		}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Fatalf("seed %d, %s (-want +got):\n%s", seed, c, diff)
		}
		s.engine, s.inventories = after, changed
		n, few := s.checkCanaries(t, seed, got.Canaries)
		canaries += n
		enough += few
	}
	t.Logf("%d stranded, %d freed, %d canaries, %d of them enough", stranded, freed, canaries, enough)
	if min(stranded, freed, canaries, enough) == 0 {
		t.Error("the fleets are too plain to show anything")
	}
}

func (s *small) checkCanaries(t *testing.T, seed uint64, list []Canary) (all, enough int) {
	proofs := make(map[string]compat.Proof)
	s.everyDevice(func(inv *inventory.Inventory, d *inventory.Device) {
		source := s.engine.Source(inv, d)
		for _, to := range s.inventories {
			for _, o := range s.engine.Offers(to) {
				if v := s.engine.Check(source, o); v.Provable() {
					if p, err := s.engine.About(source, o); err == nil {
						p.Grade, p.Result, p.Time = compat.Observed, compat.Accepted, inv.Taken.AddDate(1, 0, 0)
						proofs[p.Key()] = p
					}
				}
			}
		}
	})
	keys := slices.Sorted(maps.Keys(proofs))
	var got, picked []string
	for _, c := range list {
		got = append(got, c.Key)
		if c.Enough {
			picked = append(picked, c.Key)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, keys) {
		t.Fatalf("seed %d: %d canaries, want %d", seed, len(got), len(keys))
	}
	if len(keys) == 0 || len(keys) > 6 {
		return len(keys), len(picked)
	}
	open := func(with []string) int { // stranded devices that proofs would leave
		var list []compat.Proof
		for _, key := range with {
			list = append(list, proofs[key])
		}
		e := compat.NewEngine(s.catalogs, append(list, s.kept(s.engine)...))
		n := 0
		s.everyDevice(func(inv *inventory.Inventory, d *inventory.Device) {
			if s.plainReach(e, s.inventories, inv, d).groups[Ready] == 0 {
				n++
			}
		})
		return n
	}
	least := open(keys)
	if open(picked) != least {
		t.Fatalf("seed %d: %d canaries leave %d devices stranded, all of them %d", seed, len(picked), open(picked), least)
	}
	for mask := range 1 << len(keys) {
		if bits.OnesCount(uint(mask)) >= len(picked) {
			continue
		}
		var some []string
		for i, key := range keys {
			if mask>>i&1 == 1 {
				some = append(some, key)
			}
		}
		if open(some) == least {
			t.Fatalf("seed %d: %d canaries are enough, not %d", seed, len(some), len(picked))
		}
	}
	return len(keys), len(picked)
}

// kept are the proofs that an engine of a small fleet has.
func (s *small) kept(e *compat.Engine) []compat.Proof {
	if e == s.proved {
		return s.known
	}
	return nil
}

// TestSuppose adds hosts and changes firmware, and refuses what cannot be.
func TestSuppose(t *testing.T) {
	one, two := newHost("00", newType("t", "5", 1)), newHost("01", newType("t", "5", 1))
	one.Parents[0].Firmware.Set("fw", "1")
	f, err := New(newEngine(t), []*inventory.Inventory{one, two})
	if err != nil {
		t.Fatal(err)
	}
	next, err := f.Suppose(Supposition{
		Changes: []Change{{Kind: SetFirmware, Hosts: "00", Name: "fw", Value: "2"}}, Add: []*inventory.Inventory{newHost("02", newType("t", "5", 1))},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := next.host("00").make.static.Parents[0].Firmware.Get("fw").Text(); got != "2" || next.Hosts() != 3 || f.Hosts() != 2 || one.Parents[0].Firmware.Get("fw").Text() != "1" {
		t.Errorf("firmware %s, %d hosts, %d before", got, next.Hosts(), f.Hosts())
	}
	for name, s := range map[string]Supposition{
		"a host twice":       {Add: []*inventory.Inventory{two}},
		"no such host":       {Changes: []Change{{Kind: RemoveHost, Hosts: "x*"}}},
		"no such module":     {Changes: []Change{{Kind: SetBuild, Name: "other", Value: "1"}}},
		"no glob":            {Changes: []Change{{Kind: RemoveHost, Hosts: "["}}},
		"no kind of change":  {Changes: []Change{{Kind: "paint"}}},
		"firmware not there": {Changes: []Change{{Kind: SetFirmware, Hosts: "01", Name: "fw", Value: "2"}}},
	} {
		if _, err := f.Suppose(s); err == nil {
			t.Errorf("%s is supposed", name)
		} else if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
