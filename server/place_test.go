// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"testing"

	"kindred/api"
	"kindred/inventory"
)

// wide is an inventory of a machine with more parents, each with room for so many
// small devices.
func wide(name string, rooms ...int) *inventory.Inventory {
	inv := newMachine(name, 0).inventory()
	inv.Parents = nil
	for i, n := range rooms {
		p := newMachine(name, n).inventory().Parents[0]
		p.Name = fmt.Sprintf("p%02d", i)
		inv.Parents = append(inv.Parents, p)
	}
	inv.Sort()
	return inv
}

// many are machines with as many devices as a claim may be for.
func many(name string) (m *machine, refs []string) {
	m = newMachine(name, 2*api.MaxDevices)
	for i := range api.MaxDevices {
		d := &made{id: fmt.Sprintf("83b8f4f2-509f-382f-3c1e-e6bfe0fb%04d", i), typ: "small"}
		m.devices, refs = append(m.devices, d), append(refs, d.id)
	}
	return m, refs
}

// TestPlaceMany: whether many devices that are alike find places on a host with
// many parents is found out at once, named or not; and what nobody waits for any
// more ends.
func TestPlaceMany(t *testing.T) {
	a, refs := many("a")
	r := newRig(t, a)
	s := r.start(r.open())
	r.report(s, "a")
	for _, c := range []struct {
		rooms []int
		want  api.Code
	}{
		{[]int{4, 4, 4, 4, 4, 4, 4, 3}, api.NoRoom},
		{[]int{2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1}, api.NoRoom},
		{[]int{4, 4, 4, 4, 4, 4, 4, 4}, ""},
	} {
		name := fmt.Sprintf("b%d", len(c.rooms))
		if err := reportOf(s, wide(name, c.rooms...), fmt.Sprint(c.rooms)); err != nil {
			t.Fatal(err)
		}
		for _, req := range []api.ClaimRequest{{Devices: refs, Target: name}, {Devices: refs}} {
			claim, err := s.CreateClaim(t.Context(), "test", "", req)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("%v: %v", c.rooms, err)
			case c.want == "":
				if _, err := s.Release(t.Context(), claim.ID, 0); err != nil {
					t.Fatal(err)
				}
			case req.Target == "":
				wantCode(t, err, api.NoTarget)
			default:
				wantCode(t, err, c.want)
			}
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, target := range []string{"b8", ""} {
		if _, err := s.view.plan(ended, &api.ClaimRequest{Devices: refs, Target: target}, r.clock(), false); err != context.Canceled {
			t.Errorf("for nobody: %v", err)
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	a, refs := many("a")
	r := newRig(b, a)
	s := r.start(r.open())
	r.report(s, "a")
	for last, name := range []string{"full", "fits"} {
		if err := reportOf(s, wide("b", 4, 4, 4, 4, 4, 4, 4, 3+last), name); err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s.view.plan(b.Context(), &api.ClaimRequest{Devices: refs, Target: "b"}, r.clock(), false)
			}
		})
	}
}
