// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"testing"
	"time"

	"kindred/api"
)

// BenchmarkDrain drains 1,000 hosts with 20,000 owners onto 1,000 others, as far
// as it is the server's to do: how long it takes to look at what is left, to plan
// for it, and to begin a move, which is one transaction of the store.
func BenchmarkDrain(b *testing.B) {
	const hosts, owners, atOnce = 1000, 20, 200
	var machines []*machine
	for i := range hosts {
		m := newMachine(fmt.Sprintf("rack-%04d", i), 2*owners)
		for k := range owners {
			m.devices = append(m.devices, &made{id: fmt.Sprintf("00000000-0000-4000-8000-%08x%04x", i, k), typ: "small", open: true})
		}
		machines = append(machines, m, newMachine(fmt.Sprintf("rest-%04d", i), owners+4))
	}
	r := newRig(b, machines...)
	s := r.start(r.open())
	for _, m := range machines {
		if err := m.report(b.Context(), s.Server); err != nil {
			b.Fatal(err)
		}
	}
	var look, plan, begin time.Duration
	begun := 0
	for b.Loop() {
		d, err := s.StartDrain(b.Context(), "bench", "", api.DrainOrder{DrainRequest: api.DrainRequest{Hosts: []string{"rack-*"}, AtOnce: atOnce}})
		if err != nil || d.Waiting+d.Staying > hosts*owners {
			b.Fatal(d, err)
		}
		record, f := s.view.drain(d.ID), s.fleet()
		from := time.Now()
		left := s.view.scene(record, f)
		look += time.Since(from)
		from = time.Now()
		if _, err := left.plan(f, record, s.now()); err != nil {
			b.Fatal(err)
		}
		plan += time.Since(from)
		from = time.Now()
		if err := s.CarryDrains(b.Context()); err != nil {
			b.Fatal(err)
		}
		begin += time.Since(from)
		begun += s.view.moving(d.ID)
		if _, err := s.CancelDrain(b.Context(), d.ID, 0, api.DrainCancel{}); err != nil {
			b.Fatal(err)
		}
	}
	n := float64(b.N)
	b.ReportMetric(look.Seconds()*1000/n, "ms/look")
	b.ReportMetric(plan.Seconds()*1000/n, "ms/plan")
	b.ReportMetric((begin-look-plan).Seconds()*1000/float64(max(begun, 1)), "ms/move")
}
