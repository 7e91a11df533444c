// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"slices"
	"strings"
	"testing"

	"kindred/api"
)

// fleetKilled kills the server and either agent in each state of a migration,
// of a device that goes to and fro. Afterwards one host has one device, every
// migration is over, and no room is held.
func fleetKilled(t *testing.T, f *labFleet) {
	hosts := []string{"gen8", "gen9"}
	device := "83b8f4f2-509f-382f-3c1e-e6bfe0fa5003"
	f.inGuest(hosts[0], "kindred", "device", "start", device, "-p", fleetParent, "-t", fleetType)
	f.reports(hosts[0], device, true)
	for _, state := range []api.MigrationState{api.Claimed, api.Prepared, api.HandedOver, api.Completing, api.Aborting} {
		for _, who := range []string{"server", "source", "target"} {
			ok := t.Run(string(state)+" "+who, func(t *testing.T) {
				here := *f
				here.t = t
				device = here.travels(device, hosts[0], hosts[1], state, who)
				f.server = here.server
				if state != api.Aborting {
					slices.Reverse(hosts)
				}
			})
			if !ok {
				return
			}
		}
	}
}

// travels carries a device from host to host, kills somebody in a state, starts
// him again, and returns what the device is called then.
func (f *labFleet) travels(device, from, to string, state api.MigrationState, who string) string {
	f.t.Helper()
	killed := false
	kill := func(at api.MigrationState) {
		if at != state {
			return
		}
		killed = true
		switch who {
		case "server":
			f.server.kill()
			f.startServer()
		case "source":
			f.killAgent(from)
			defer f.startAgent(from)
		case "target":
			f.killAgent(to)
			defer f.startAgent(to)
		}
	}
	m := new(api.Migration)
	f.asks(0, m, nil, "migration", "create", device, "--target", to, "--owner", "vm-1")
	kill(api.Claimed)
	m = f.gets(m.ID, api.Prepared)
	kill(api.Prepared)
	f.asks(0, nil, nil, "migration", "hand-over", m.ID)
	kill(api.HandedOver)
	target := m.Devices[0].Target
	end, gone, left, host := api.Completed, device, target, to
	if state == api.Aborting {
		f.asks(0, nil, nil, "migration", "abort", m.ID)
		end, gone, left, host = api.Aborted, target, device, from
	} else {
		f.asks(0, nil, nil, "migration", "complete", m.ID)
	}
	kill(api.Completing)
	kill(api.Aborting)
	if m = f.gets(m.ID, end); m.Host != host {
		f.t.Errorf("%+v", m)
	}
	if !killed {
		f.t.Fatalf("nobody was killed: %s, %s", state, who)
	}
	for _, name := range []string{from, to} {
		if f.there(name, gone) || f.there(name, left) != (name == host) {
			f.t.Errorf("%s should have %s alone: %s", host, left, strings.Join(f.has(name), "\n"))
		}
	}
	f.asks(0, nil, []string{"no claim holds room"}, "claim", "list")
	f.reports(host, left, true)
	f.reports(map[string]string{from: to, to: from}[host], gone, false)
	return left
}
