// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindred/api"
	"kindred/fleet"
	"kindred/inventory"
)

// Devices of guests of the fleet, by fixed names.
const (
	fleetDevice = "83b8f4f2-509f-382f-3c1e-e6bfe0fa5001"
	newDevice   = "83b8f4f2-509f-382f-3c1e-e6bfe0fa5002"
	fleetType   = "kdx-V4_4"
	newType     = "kdx-V5_4"
	fleetParent = "0000:00:10.0"
)

// allAllowed is a policy that forbids nothing.
const allAllowed = `{manage: [{parent: "*"}], canaries: [{parent: "*"}]}`

// threeHosts are old hardware, new hardware that offers the old type too, and
// old hardware without a feature.
func threeHosts(t *testing.T) []Host {
	old, young, poor := known(t, "gen8-open"), known(t, "gen9-open"), known(t, "poor")
	old.Name, young.Name = "gen8", "gen9"
	poor.Modules[0] += " describe=1"
	return []Host{old, young, poor}
}

// TestFleetByCommands has a server on this machine, agents on three real kernels, and
// everything done by commands.
func TestFleetByCommands(t *testing.T) {
	f := newFleet(t, threeHosts(t)...)
	f.inGuest("gen8", "kindred", "device", "start", fleetDevice, "-p", fleetParent, "-t", fleetType, "--attr", "weight=3")
	f.inGuest("gen9", "kindred", "device", "start", newDevice, "-p", fleetParent, "-t", newType)
	f.reports("gen8", fleetDevice, true)
	f.reports("gen9", newDevice, true)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *labFleet)
	}{
		{"joined", fleetJoined}, {"targets", fleetTargets}, {"refused", fleetRefused}, {"not allowed there", fleetNotManaged},
		{"aborted", fleetAborted}, {"completed", fleetCompleted}, {"late", fleetLate}, {"canary", fleetCanary}, {"killed", fleetKilled},
	} {
		if !t.Run(part.name, func(t *testing.T) {
			here := *f
			here.t = t
			part.run(t, &here)
			f.server, f.agents = here.server, here.agents
		}) {
			break
		}
	}
	for _, g := range f.guests {
		cleanLog(f.ctx, t, g)
	}
}

// inGuest runs a command that must succeed.
func (f *labFleet) inGuest(host string, argv ...string) {
	f.t.Helper()
	expect(f.ctx, f.t, f.guests[host], 0, nil, argv...)
}

// fleetJoined: all report and may be managed, and a token is good once.
func fleetJoined(t *testing.T, f *labFleet) {
	var hosts []api.Host
	f.until("all hosts report", func() bool {
		f.asks(0, &hosts, nil, "host", "list")
		return len(hosts) == len(f.guests)
	})
	for _, h := range hosts {
		if h.State != api.Reporting || h.Mode != api.Manage || h.Parents != 2 || h.Origin != inventory.FromKernel {
			t.Errorf("%+v", h)
		}
	}
	code, token, said := f.run("kindredd", "token", "create", "--host", "poor", "--server", "unix:"+f.file("sock"))
	if code != 0 {
		t.Fatal(said)
	}
	f.joins("poor", token, 0, "host poor joined")
	f.joins("poor", token, 1, "used already")
}

// fleetTargets: the old device may go to the new hardware as the old type, and
// to no host that lacks something.
func fleetTargets(t *testing.T, f *labFleet) {
	var answer fleet.Targets
	f.asks(0, &answer, nil, "targets", fleetDevice)
	got := make(map[string]string)
	for _, h := range answer.Hosts {
		got[h.Host] = string(h.Group) + " " + h.Type.Full()
	}
	if diff := cmp.Diff(map[string]string{"gen9": "ready " + fleetType, "poor": "not-allowed " + fleetType}, got); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	f.asks(0, nil, []string{"attribute.lacks", "features"}, "targets", fleetDevice, "--explain")
	f.asks(4, nil, []string{"type.different"}, "targets", newDevice, "--explain")
}

// fleetRefused: what cannot go anywhere is refused with the reason, and nothing
// is made or held for it.
func fleetRefused(t *testing.T, f *labFleet) {
	before := f.all()
	f.asks(4, nil, []string{"not-compatible", "attribute.lacks"}, "claim", "create", fleetDevice, "--target", "poor")
	f.asks(4, nil, []string{"attribute.lacks"}, "migration", "create", fleetDevice, "--target", "poor", "--wait", "30s")
	f.asks(4, nil, []string{"no-target", "type.not-offered", newType}, "migration", "create", newDevice, "--wait", "30s")
	f.asks(0, nil, []string{"no claim holds room"}, "claim", "list")
	f.asks(0, nil, []string{"no migration is under way"}, "migration", "list")
	f.same(before)
}

// all is what every host has.
func (f *labFleet) all() map[string][]string {
	f.t.Helper()
	all := make(map[string][]string)
	for name := range f.guests {
		all[name] = f.has(name)
	}
	return all
}

func (f *labFleet) same(before map[string][]string) {
	f.t.Helper()
	if diff := cmp.Diff(before, f.all()); diff != "" {
		f.t.Errorf("what the hosts have (-before +after):\n%s", diff)
	}
}

// fleetNotManaged: what the target's operator does not allow is not done, and
// the migration ends with that reason.
func fleetNotManaged(t *testing.T, f *labFleet) {
	before := f.all()
	f.allow("gen9", `manage: [{parent: "*", type: kdx-V5_4}]`)
	var m api.Migration
	f.asks(4, &m, nil, "migration", "create", fleetDevice, "--wait", "60s")
	if got := f.gets(m.ID, api.Aborted); !strings.Contains(got.Reason, "operator does not let") || got.Host != "gen8" {
		t.Errorf("%+v", got)
	}
	f.allow("gen9", allAllowed)
	f.same(before)
	f.asks(0, nil, []string{"no claim holds room"}, "claim", "list")
}

// prepare claims a target and has it prepared.
func (f *labFleet) prepare(device, from, to string) (*api.Claim, *api.Migration) {
	f.t.Helper()
	c, m := new(api.Claim), new(api.Migration)
	f.asks(0, c, nil, "claim", "create", device, "--target", to, "--owner", "vm-1")
	if c.State != api.Held || c.Source != from || c.Target != to || len(c.Devices) != 1 || c.Devices[0].Type.Full() != fleetType {
		f.t.Fatalf("the claim is %+v", c)
	}
	f.asks(0, m, nil, "migration", "create", "--claim", c.ID, "--wait", patience.String())
	if m.State != api.Prepared || m.Host != from || m.Devices[0].Target != c.Devices[0].Device {
		f.t.Fatalf("the migration is %+v", m)
	}
	return c, m
}

// fleetAborted: half way, and everything is as it was.
func fleetAborted(t *testing.T, f *labFleet) {
	before := f.all()
	for _, handedOver := range []bool{false, true} {
		c, m := f.prepare(fleetDevice, "gen8", "gen9")
		target := m.Devices[0].Target
		if !f.there("gen9", target) {
			t.Errorf("gen9 is said to be prepared, and has no %s", target)
		}
		want := "not today"
		if handedOver {
			f.asks(0, nil, []string{"handed-over"}, "migration", "hand-over", m.ID)
		}
		f.asks(0, nil, nil, "migration", "abort", m.ID, "--reason", want)
		if got := f.gets(m.ID, api.Aborted); got.Reason != want || got.Host != "gen8" {
			t.Errorf("%+v", got)
		}
		f.asks(0, c, nil, "claim", "show", c.ID)
		if c.State != api.Ended || c.End != api.EndAborted {
			t.Errorf("the claim is %s %s", c.State, c.End)
		}
		f.same(before)
		f.asks(4, nil, []string{"wrong-state"}, "migration", "complete", m.ID)
	}
}

// there reports whether the kernel has the device.
func (f *labFleet) there(host, device string) bool {
	f.t.Helper()
	return sh(f.ctx, f.t, f.guests[host].Client, "test -e /sys/bus/mdev/devices/"+device+" && echo yes || echo no") == "yes"
}

// fleetCompleted: with a process in the VM's place that has the source's device
// open until the state moved, and the target's from then on.
func fleetCompleted(t *testing.T, f *labFleet) {
	_, stop := hold(f.ctx, t, f.guests["gen8"], fleetDevice)
	c, m := f.prepare(fleetDevice, "gen8", "gen9")
	target := m.Devices[0].Target
	if got := c.Devices[0].Contract; got == nil || got.Host != "gen8" || got.Type.Full() != fleetType {
		t.Errorf("what the guest was promised goes along as %+v", got)
	}
	if diff := cmp.Diff([]api.Attribute{{Name: "weight", Value: "3"}}, c.Devices[0].Copy); diff != "" {
		t.Errorf("to be set on the target (-want +got):\n%s", diff)
	}
	g := f.guests["gen9"]
	if got := sh(f.ctx, t, g.Client, "cd /sys/bus/mdev/devices/"+target+"; basename $(readlink mdev_type); cat weight"); got != fleetType+"\n3" {
		t.Errorf("the target's type and weight: %q", got)
	}
	if f.migration(m.ID).Host != "gen8" {
		t.Error("the owner is not the source while the VM is there")
	}
	f.asks(0, nil, []string{"handed-over", "the devices are gen8's"}, "migration", "hand-over", m.ID)
	f.asks(0, nil, []string{"the devices are gen9's"}, "migration", "complete", m.ID)
	// What is in use is not removed, whatever anybody said.
	f.until("the source is found in use", func() bool { return f.migration(m.ID).Devices[0].AtSource == api.Busy })
	if !f.there("gen8", fleetDevice) {
		t.Error("the source was removed while a process had it open")
	}
	stop()
	_, done := hold(f.ctx, t, g, target)
	if got := f.gets(m.ID, api.Completed); got.Host != "gen9" {
		t.Errorf("%+v", got)
	}
	if f.there("gen8", fleetDevice) || !f.there("gen9", target) {
		t.Error("the source is still there, or the target not")
	}
	done()
	f.defined(t, "gen9", target)
	f.reports("gen8", fleetDevice, false)
	f.asks(0, c, nil, "claim", "show", c.ID)
	if c.State != api.Ended || c.End != api.EndCompleted {
		t.Errorf("the claim is %s %s", c.State, c.End)
	}
	f.asks(0, nil, []string{"no claim holds room"}, "claim", "list")
	f.stopped(t, "gen9", target)
}

// defined: the target's device can be had again, by hand, after a boot.
func (f *labFleet) defined(t *testing.T, host, device string) {
	t.Helper()
	said := sh(f.ctx, t, f.guests[host].Client, "cat /etc/mdevctl.d/*/"+device)
	var d struct {
		Type  string `json:"mdev_type"`
		Start string `json:"start"`
	}
	if err := json.Unmarshal([]byte(said), &d); err != nil || d.Type != fleetType || d.Start != "manual" {
		t.Errorf("the definition of %s on %s is %s (%v)", device, host, said, err)
	}
}

// stopped makes room: the travels of this device are over.
func (f *labFleet) stopped(t *testing.T, host, device string) {
	t.Helper()
	f.inGuest(host, "kindred", "device", "stop", device)
	f.reports(host, device, false)
}
