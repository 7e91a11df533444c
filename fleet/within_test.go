// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"testing"
	"time"
)

// TestWithin: with a context that is over, no question goes over the fleet; with
// one that is not, it is answered.
func TestWithin(t *testing.T) {
	f := busyFleet()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx  context.Context
		want bool
	}{{t.Context(), true}, {ended, false}} {
		f := f.Within(c.ctx)
		first := f.HostNames()[:1]
		what, err := f.WhatIf(Supposition{Changes: []Change{{Kind: SetFact, Name: "x", Value: "1"}, {Kind: RemoveHost, Hosts: first[0]}}})
		if c.want && (err != nil || len(what.Gone) == 0) || !c.want && err == nil {
			t.Errorf("what if: %+v, %v", what, err)
		}
		plan, err := f.Drain(first, DrainOptions{})
		if err != nil || len(plan.Moves)+len(plan.Stays) > 0 != c.want {
			t.Errorf("drain: %+v, %v", plan, err)
		}
		roll, err := f.Rolling(f.HostNames(), 1, nil, DrainOptions{})
		if err != nil || len(roll.Waves) > 0 != c.want {
			t.Errorf("rolling: %+v, %v", roll, err)
		}
		if n := f.Reach(true).Devices; n > 0 != c.want {
			t.Errorf("reach: %d devices", n)
		}
		if m := f.Matrix(); len(m.Types[0].Cells) > 0 != c.want {
			t.Errorf("matrix: %d cells", len(m.Types[0].Cells))
		}
	}
}

// busyFleet is one whose first host has devices.
func busyFleet() *Fleet {
	for seed := uint64(1); ; seed++ {
		if f := newSmall(seed).fleet(); len(f.host(f.HostNames()[0]).devices) > 0 {
			return f
		}
	}
}

func TestReporting(t *testing.T) {
	f := busyFleet()
	all, silent := f.Reporting(time.Now(), 100*365*24*time.Hour)
	if all.Hosts() != f.Hosts() || silent != 0 {
		t.Errorf("%d of %d hosts, %d silent", all.Hosts(), f.Hosts(), silent)
	}
	none, silent := f.Reporting(time.Now().Add(200*365*24*time.Hour), time.Hour)
	if none.Hosts() != 0 || silent != f.Hosts() {
		t.Errorf("%d hosts, %d of %d silent", none.Hosts(), silent, f.Hosts())
	}
}
