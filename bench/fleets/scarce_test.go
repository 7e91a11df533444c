// SPDX-License-Identifier: Apache-2.0

package fleets

import (
	"testing"

	"kindred/fleet"
)

// BenchmarkDrainScarce drains most of a fleet, so that not all owners find
// room: the time goes into making way and into the bound.
func BenchmarkDrainScarce(b *testing.B) {
	m, x := made(b, 5000)
	var hosts []string
	for i := range 4000 {
		hosts = append(hosts, m.Host(i).Host)
	}
	for b.Loop() {
		p, err := x.Fleet().Drain(hosts, fleet.DrainOptions{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(p.Owners), "owners")
		b.ReportMetric(float64(p.Moved), "moved")
		b.ReportMetric(float64(p.Bound), "bound")
	}
}
