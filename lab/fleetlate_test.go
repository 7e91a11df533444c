// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"strings"
	"testing"
	"time"

	"kindred/api"
)

// fleetLate has nobody say how two migrations ended, and the target's agent dead
// when their deadline passes: nothing is removed until it is back. Then the VM
// is where processes have its devices open.
func fleetLate(t *testing.T, f *labFleet) {
	const ttl = 25 * time.Second
	devices := []string{"83b8f4f2-509f-382f-3c1e-e6bfe0fa5004", "83b8f4f2-509f-382f-3c1e-e6bfe0fa5005"}
	var under []*api.Migration
	began := time.Now()
	for _, d := range devices {
		f.inGuest("gen8", "kindred", "device", "start", d, "-p", fleetParent, "-t", fleetType)
		f.reports("gen8", d, true)
		m := new(api.Migration)
		f.asks(0, m, nil, "migration", "create", d, "--target", "gen9", "--ttl", ttl.String(), "--wait", ttl.String())
		f.asks(0, m, []string{"handed-over"}, "migration", "hand-over", m.ID)
		under = append(under, m)
	}
	moved, stayed := under[0], under[1]
	_, done := hold(f.ctx, t, f.guests["gen9"], moved.Devices[0].Target)
	f.killAgent("gen9")
	time.Sleep(time.Until(began.Add(ttl))) // the first one's
	for _, m := range under {
		f.until("the deadline passed", func() bool { return f.migration(m.ID).Code == api.DeadlinePassed })
	}
	time.Sleep(3 * time.Second)
	for i, m := range under {
		if got := f.migration(m.ID); got.State != api.HandedOver || got.Host != "gen8" {
			t.Errorf("with an agent that says nothing: %+v", got)
		}
		if !f.there("gen8", devices[i]) || !f.there("gen9", m.Devices[0].Target) {
			t.Error("a device was removed in doubt")
		}
	}
	f.startAgent("gen9")
	if got := f.gets(moved.ID, api.Completed); got.Host != "gen9" || !strings.Contains(got.Reason, "the target's devices are in use") {
		t.Errorf("%+v", got)
	}
	if got := f.gets(stayed.ID, api.Aborted); got.Host != "gen8" || !strings.Contains(got.Reason, "no device of the target is in use") {
		t.Errorf("%+v", got)
	}
	for _, c := range []struct {
		host, device string
		there        bool
	}{{"gen8", devices[0], false}, {"gen9", moved.Devices[0].Target, true}, {"gen8", devices[1], true}, {"gen9", stayed.Devices[0].Target, false}} {
		if f.there(c.host, c.device) != c.there {
			t.Errorf("%s has %s: %v, want %v", c.host, c.device, !c.there, c.there)
		}
	}
	f.asks(0, nil, []string{"no claim holds room"}, "claim", "list")
	done()
	f.stopped(t, "gen9", moved.Devices[0].Target)
	f.stopped(t, "gen8", devices[1])
}
