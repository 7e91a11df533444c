// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"kindred/fleet"
)

// vmUpgrade: a driver's new release on three hosts, one after the other, under
// VMs that run. Nobody knows yet whether a device of the old release can go to
// the new one, and it turns out that none can come back.
func vmUpgrade(t *testing.T, page *story) {
	v, vms := newUpgrade(t)
	v.story = page
	page.section(upgradeTitle, "Three hosts with release 10 of the driver, a VM on each, and catalogs that know nothing of release 11, which writes a newer stream.")
	page.note("host3 is emptied and gets the new release:")
	v.migrates(vms[2], "host1")
	v.upgrade("host3", vms[1], fleet.Unsettled)

	page.note("Nobody knows whether a device may go there:")
	before := v.all()
	v.types("host2", 1, []string{"build.unproven"}, migrateArgs(vms[1], "host3")...)
	v.stays(vms[1], before)

	page.note("One canary: a state recorded on host2 and replayed on host3.")
	v.canary("host2", "host3")
	for _, vm := range vms {
		v.migrates(vm, "host3")
	}

	page.note("Back, to the old release?")
	v.wontReturn(vms[1])

	page.note("The other hosts are empty now, and get the new release. Then each VM goes back to where it was:")
	v.upgrade("host1", vms[0], fleet.Ready)
	v.upgrade("host2", vms[0], fleet.Ready)
	v.migrates(vms[0], "host1")
	v.migrates(vms[1], "host2")
	v.goesOn(vms[2])
	for _, g := range v.guests {
		cleanLog(v.ctx, t, g)
	}
}

// newUpgrade has three hosts with a VM each.
func newUpgrade(t *testing.T) (*labVMs, []*labVM) {
	var hosts []Host
	for i := range 3 {
		h := known(t, "rel10")
		h.Name = fmt.Sprintf("host%d", i+1)
		hosts = append(hosts, h)
	}
	v := newVMs(t, hosts...)
	catalogs := untriedCatalogs(t)
	if err := os.MkdirAll(v.file("catalogs"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range catalogs {
		if err := os.WriteFile(filepath.Join(v.file("catalogs"), name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v.server.kill()
	v.startServer()
	var vms []*labVM
	for i := range hosts {
		g, device := v.guests[hosts[i].Name], fmt.Sprintf("83b8f4f2-509f-382f-3c1e-e6bfe0fa800%d", i+1)
		sh(v.ctx, t, g.Client, "mkdir -p /etc/kindred/catalog.d /var/tmp")
		for name, data := range catalogs {
			if err := g.Put(v.ctx, "/etc/kindred/catalog.d/"+name, 0o644, bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
		}
		v.inGuest(g.Name, "kindred", "device", "start", device, "-p", fleetParent, "-t", fleetType)
		v.reports(g.Name, device, true)
		vm := &labVM{name: fmt.Sprintf("vm%d", i+1), id: fmt.Sprintf("5d0c8a9e-4f1e-4a5b-8c3d-00000000001%d", i+1), ballast: 4, devices: []string{device}}
		v.start(g.Name, vm)
		vms = append(vms, vm)
	}
	return v, vms
}

// upgrade gives an empty host the driver's new release, as its packages would,
// and waits until that is what another VM is told of it.
func (v *labVMs) upgrade(host string, other *labVM, group fleet.Group) {
	v.t.Helper()
	v.types(host, 0, nil, "sh", "-ec", "rmmod kdx_rel10; modprobe kdx_rel11")
	v.until(fmt.Sprintf("to %s %s is %s", other.name, host, group), func() bool { return v.target(other, host) == group })
}

// target is what a host is to a VM's device.
func (v *labVMs) target(vm *labVM, host string) fleet.Group {
	v.t.Helper()
	var answer fleet.Targets
	code, stdout, stderr := v.run("kindred", "targets", vm.devices[0], "-o", "json")
	if code != 0 && code != 3 && code != 4 && code != 5 {
		v.t.Fatalf("kindred targets: exit code %d: %s", code, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &answer); err != nil {
		v.t.Fatalf("kindred targets: %v in\n%s", err, stdout)
	}
	for _, h := range answer.Hosts {
		if h.Host == host {
			return h.Group
		}
	}
	return ""
}

// canary proves that a fresh state of one host's release is taken on another's.
func (v *labVMs) canary(from, to string) {
	v.t.Helper()
	const stream = "/var/tmp/canary.stream"
	v.types(from, 0, nil, "kindred", "stream", "record", "--type", fleetType, "--out", stream)
	data, err := v.guests[from].Get(v.ctx, stream)
	if err != nil {
		v.t.Fatal(err)
	}
	g := v.guests[to]
	recorder := sh(v.ctx, v.t, v.guests[from].Client, "kindred proof key show")
	for name, text := range map[string][]byte{stream: data, "/etc/kindred/proof-keys.d/" + from + ".pub": []byte(recorder + "\n")} {
		if err := g.Put(v.ctx, name, 0o600, bytes.NewReader(text)); err != nil {
			v.t.Fatal(err)
		}
	}
	v.types(to, 0, []string{"accepted"}, "kindred", "stream", "replay", stream, "--type", fleetType)
	key := sh(v.ctx, v.t, g.Client, "kindred proof key show")
	if err := os.MkdirAll(v.file("keys"), 0o755); err != nil {
		v.t.Fatal(err)
	}
	exported := v.file("proofs.json")
	for name, text := range map[string]string{filepath.Join(v.file("keys"), to+".pub"): key + "\n", exported: sh(v.ctx, v.t, g.Client, "kindred proof export")} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			v.t.Fatal(err)
		}
	}
	v.until("the server takes the proofs", func() bool { // it learns of a new key by itself
		code, _, _ := v.run("kindred", "proof", "import", exported)
		return code == 0
	})
	code, stdout, stderr := v.run("kindred", "proof", "list")
	v.checks("server", hasEnded{code, stdout, stderr}, 0, []string{"accepted"}, "kindred", "proof", "list")
}

// wontReturn: unknown, so it is refused; an operator who knows better is shown by
// the driver that he does not, and the VM runs on. That is on record.
func (v *labVMs) wontReturn(vm *labVM) {
	v.t.Helper()
	v.types("host3", 1, []string{"build.unproven"}, migrateArgs(vm, "host1")...)
	before := v.all()
	argv := []string{"claim", "create", vm.devices[0], "--owner", vm.id, "--target", "host1", "--accept-unknown", "build.unproven", "--reason", "it will do"}
	code, stdout, stderr := v.run("kindred", argv...)
	v.checks("server", hasEnded{code, stdout, stderr}, 0, nil, append([]string{"kindred"}, argv...)...)
	v.types("host3", 1, []string{"migration failed"}, migrateArgs(vm, "host1")...)
	v.stays(vm, before)
	code, stdout, stderr = v.run("kindred", "proof", "list")
	v.checks("server", hasEnded{code, stdout, stderr}, 0, []string{"rejected"}, "kindred", "proof", "list")
}
