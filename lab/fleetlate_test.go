// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kindred/api"
	"kindred/client"
	"kindred/compat/proofs"
	"kindred/fleet"
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

// fleetCanary settles a pair of builds of which nobody knows: a canary is
// recorded on one guest and replayed on another, and the server takes the proof
// from the second, whose key it trusts.
func fleetCanary(t *testing.T, f *labFleet) {
	const device, stream = "83b8f4f2-509f-382f-3c1e-e6bfe0fa5006", "/var/tmp/poor.stream"
	from, to := f.guests["poor"], f.guests["gen9"]
	for _, g := range []*Guest{from, to} {
		sh(f.ctx, t, g.Client, "mkdir -p /var/tmp")
	}
	f.inGuest("poor", "kindred", "device", "start", device, "-p", fleetParent, "-t", fleetType)
	f.reports("poor", device, true)
	f.asks(3, nil, []string{"build.unproven"}, "targets", device, "--explain")
	f.asks(3, nil, []string{"not-settled", "build.unproven"}, "claim", "create", device, "--target", "gen9")

	f.inGuest("poor", "kindred", "stream", "record", "--type", fleetType, "--out", stream)
	data, err := from.Get(f.ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := to.Put(f.ctx, stream, 0o600, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	recorder := sh(f.ctx, t, from.Client, "kindred proof key show")
	if err := to.Put(f.ctx, "/etc/kindred/proof-keys.d/poor.pub", 0o644, strings.NewReader(recorder+"\n")); err != nil {
		t.Fatal(err)
	}
	expect(f.ctx, t, to, 0, []string{"accepted"}, "kindred", "stream", "replay", stream, "--type", fleetType)
	key := sh(f.ctx, t, to.Client, "kindred proof key show")
	if err := os.MkdirAll(f.file("keys"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.file("keys"), "gen9.pub"), []byte(key+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f.server.kill()
	f.startServer() // with the key
	file, err := proofs.Decode([]byte(sh(f.ctx, t, to.Client, "kindred proof export")))
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New([]string{"unix:" + f.file("sock")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.AddProofs(f.ctx, file); err != nil {
		t.Fatal(err)
	}
	var answer fleet.Targets
	f.asks(0, &answer, nil, "targets", device)
	if h := answer.Hosts[0]; h.Host != "gen9" || h.Group != fleet.Ready {
		t.Errorf("proved, and first comes %s, %s", h.Host, h.Group)
	}
	_, m := f.prepare(device, "poor", "gen9")
	f.asks(0, nil, nil, "migration", "abort", m.ID)
	f.gets(m.ID, api.Aborted)
	f.stopped(t, "poor", device)
}
