// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	diff "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kindred/compat"
	"kindred/inventory"
)

// TestMissingOracle: proofs that are missing are those that the plain way finds.
func TestMissingOracle(t *testing.T) {
	found, near, devices := 0, 0, 0
	for seed := range uint64(*smallFleets) {
		s := newSmall(seed)
		s.engine = compat.NewEngine(s.provable(t), s.known)
		want := plainMissing(s.engine, s.inventories)
		got := s.fleet().Missing()
		if d := diff.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("fleet %d: %s", seed, d)
		}
		found += len(got)
		for i := range got {
			devices += got[i].Devices
			if got[i].From.Host == got[i].To.Host {
				near++
			}
		}
	}
	if found == 0 || near == 0 || near == found || devices == 0 {
		t.Errorf("%d proofs are missing, %d on one host, for %d devices: these fleets show nothing", found, near, devices)
	}
}

// provable are catalogs by which canaries can prove something.
func (s *small) provable(t *testing.T) *compat.Catalogs {
	var catalogs []*compat.Catalog
	for _, name := range s.namespaces {
		text := fmt.Sprintf(smallCatalogs, name, s.one("proof: {lowest: fresh-state, canaries: safe, source: test}", "proof: {lowest: fresh-state, canaries: safe, shaping: [a], source: test}", "proof: {lowest: fresh-state, canaries: unsafe, source: test}"))
		c, err := compat.ParseCatalog(name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		catalogs = append(catalogs, c)
	}
	all, err := compat.NewCatalogs(nil, catalogs)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// plainMissing asks the engine about each device and each offer.
func plainMissing(engine *compat.Engine, inventories []*inventory.Inventory) []Missing {
	m := plainMissingProofs{engine: engine, found: make(map[string]*Missing)}
	for _, inv := range inventories {
		m.offers = append(m.offers, engine.Offers(inv)...)
	}
	for _, o := range m.offers {
		m.source(engine.Instance(o), 0)
	}
	for _, inv := range inventories {
		for k := range inv.Devices {
			if inv.Devices[k].Canary != "" {
				continue // it waits for nothing
			}
			m.source(engine.Source(inv, &inv.Devices[k]), 1)
		}
	}
	list := make([]Missing, 0, len(m.found))
	for _, one := range m.found {
		list = append(list, *one)
	}
	slices.SortFunc(list, func(a, b Missing) int {
		return cmp.Or(cmp.Compare(b.Devices, a.Devices), a.From.compare(&b.From), a.To.compare(&b.To))
	})
	return list
}

type plainMissingProofs struct {
	engine *compat.Engine
	offers []*compat.Offer
	found  map[string]*Missing // by key
}

// source adds what one source waits for.
func (m *plainMissingProofs) source(s *compat.Source, devices int) {
	waits := make(map[string]bool)
	for _, o := range m.offers {
		if o.Host() == s.Host() && o.Parent() == s.Parent() || m.engine.Outcome(s, o) != compat.Unknown {
			continue
		}
		if v := m.engine.Check(s, o); !v.Provable() {
			continue
		}
		if !reachable(m.engine.Policy(s.Type())) || !reachable(m.engine.Policy(o.Type().TypeName)) {
			continue
		}
		about, err := m.engine.About(s, o)
		if err != nil {
			continue // a build that is not known: no proof could be made
		}
		key := about.Key()
		from, to := Spot{s.Host(), s.Parent(), s.Type()}, Spot{o.Host(), o.Parent(), o.Type().TypeName}
		one := m.found[key]
		if one == nil {
			one = &Missing{Key: key, From: from, To: to}
			m.found[key] = one
		}
		near, was := from.Host == to.Host, one.From.Host == one.To.Host
		if near && !was || near == was && cmp.Or(from.compare(&one.From), to.compare(&one.To)) < 0 {
			one.From, one.To = from, to
		}
		if devices == 0 {
			one.Parents++
		}
		waits[key] = true
	}
	for key := range waits {
		m.found[key].Devices += devices
	}
}
