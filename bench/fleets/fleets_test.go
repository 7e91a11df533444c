// SPDX-License-Identifier: Apache-2.0

package fleets

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"kindred/fleet"
	"kindred/inventory"
)

// made is a fleet in an index, as large as a benchmark can wait for; the
// command fleet-bench measures the whole size.
func made(b testing.TB, hosts int) (*Fleet, *fleet.Index) {
	m, err := New(1, Size{Hosts: hosts})
	if err != nil {
		b.Fatal(err)
	}
	x := fleet.NewIndex(m.Engine)
	for _, static := range m.Statics {
		if _, err := x.Static(static); err != nil {
			b.Fatal(err)
		}
	}
	load := x.Loading()
	for i := range hosts {
		if err := load.Add(m.Host(i)); err != nil {
			b.Fatal(err)
		}
	}
	load.Done()
	return m, x
}

// TestFleets: a fleet is the same for a seed, whole and stored, and its
// inventories are documents that can be read.
func TestFleets(t *testing.T) {
	a, x := made(t, 24)
	dir := t.TempDir()
	if err := a.Store(dir, 2); err != nil {
		t.Fatal(err)
	}
	stored := fleet.NewIndex(a.Engine)
	if err := Load(stored, dir); err != nil {
		t.Fatal(err)
	}
	var whole []*inventory.Inventory
	for i := range 24 {
		inv := a.Inventory(i)
		data, err := inventory.Encode(inv)
		if err != nil {
			t.Fatal(err)
		}
		if inv, err = inventory.Decode(data); err != nil {
			t.Fatal(err)
		}
		whole = append(whole, inv)
	}
	f, err := fleet.New(a.Engine, whole)
	if err != nil {
		t.Fatal(err)
	}
	want := each(f)
	for name, other := range map[string]*fleet.Fleet{"stored": stored.Fleet(), "in an index": x.Fleet()} {
		if got := each(other); got != want {
			t.Errorf("%s, the fleet reaches otherwise", name)
		}
	}
}

// each is how far every device reaches, by its id.
func each(f *fleet.Fleet) string {
	list := f.Reach(true).Each
	slices.SortFunc(list, func(a, b fleet.DeviceReach) int { return strings.Compare(a.Device, b.Device) })
	return fmt.Sprint(list)
}

func BenchmarkTargets(b *testing.B) {
	m, x := made(b, 20_000)
	f := x.Fleet()
	r := rand.New(rand.NewPCG(7, 7))
	var list []*fleet.Source
	for len(list) < 1000 {
		own := m.Host(r.IntN(20_000))
		if len(own.Devices) > 0 {
			s, err := f.Source(own.Host + "/" + own.Devices[0].ID)
			if err != nil {
				b.Fatal(err)
			}
			list = append(list, s)
		}
	}
	for _, policy := range fleet.Policies {
		b.Run(string(policy), func(b *testing.B) {
			for _, s := range list { // classes that were never asked for
				f.Targets(s, fleet.Options{Policy: policy, Limit: 1})
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				f.Targets(list[i%len(list)], fleet.Options{Policy: policy, Limit: 100})
				i++
			}
		})
	}
}

func BenchmarkPut(b *testing.B) {
	m, x := made(b, 20_000)
	r := rand.New(rand.NewPCG(9, 9))
	var news []*inventory.Own
	for range 1000 {
		own := m.Host(r.IntN(20_000))
		own.Taken = own.Taken.Add(time.Duration(r.IntN(3600)) * time.Second)
		p, left := r.IntN(8), r.IntN(17)
		for t := range 16 {
			own.Available[p*16+t] = left >> (t % 4)
		}
		news = append(news, own)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if err := x.Put(news[i%len(news)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkReach(b *testing.B) {
	_, x := made(b, 20_000)
	for b.Loop() {
		x.Fleet().Reach(false)
	}
}

func BenchmarkDrain(b *testing.B) {
	m, x := made(b, 20_000)
	var hosts []string
	for i := range 200 {
		hosts = append(hosts, m.Host(i).Host)
	}
	for b.Loop() {
		if _, err := x.Fleet().Drain(hosts, fleet.DrainOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
