// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"kindred/api"
)

// More devices of VMs.
const (
	vmDevice2 = "83b8f4f2-509f-382f-3c1e-e6bfe0fa7002"
	vmDevice3 = "83b8f4f2-509f-382f-3c1e-e6bfe0fa7003"
	vmNewer   = "83b8f4f2-509f-382f-3c1e-e6bfe0fa7004"
)

const shownHead = `# What was shown with libvirt and QEMU

Written by ` + "`make lab-vm UPDATE=1`" + `: real VMs on real kernels with the sample driver's devices, moved by libvirt 11.3 and QEMU 10 with
Kindred's hook, a server and an agent on each host. The VM's software compares its devices with a model of them five times a second and says so
([how](../lab/README.md)); every run of the test reads all that it ever said. Hosts: gen8 offers the old type, gen9 the old and the new one and has room for two
devices, poor lacks a feature.
`

// TestVMs: everything that a user of libvirt meets, one after the other, on three
// hosts.
func TestVMs(t *testing.T) {
	needVMs(t)
	shown, upgraded := new(story), new(story)
	t.Run("fleet", func(t *testing.T) { vmFleet(t, shown) })
	t.Run("upgrade", func(t *testing.T) { vmUpgrade(t, upgraded) })
	writePage(t, filepath.Join("..", "docs", "libvirt-shown.md"), shownHead, shown, upgraded)
}

func vmFleet(t *testing.T, page *story) {
	hosts := threeHosts(t)
	// One parent with room for two on the new host, so that there can be too many.
	hosts[1].Modules[0] += " units=8"
	hosts[1].QEMUArgs = hosts[1].QEMUArgs[:2]
	v := newVMs(t, hosts...)
	v.story = page
	for _, d := range []string{vmDevice, vmDevice2, vmDevice3} {
		v.inGuest("gen8", "kindred", "device", "start", d, "-p", fleetParent, "-t", fleetType)
		v.reports("gen8", d, true)
	}
	v.inGuest("gen9", "kindred", "device", "start", vmNewer, "-p", fleetParent, "-t", newType)
	v.reports("gen9", vmNewer, true)
	v.start("gen8", &labVM{name: "vm1", id: vmID, ballast: 16, devices: []string{vmDevice}})
	v.start("gen8", &labVM{name: "vm2", id: strings.Replace(vmID, "000001", "000002", 1), ballast: 4, devices: []string{vmDevice2, vmDevice3}})
	v.start("gen9", &labVM{name: "vm3", id: strings.Replace(vmID, "000001", "000003", 1), devices: []string{vmNewer}})
	for _, part := range []struct {
		name string
		run  func(*testing.T, *labVMs)
	}{
		{"refused", vmRefused}, {"moved", vmMoved}, {"commands", vmCommands}, {"fails", vmFails}, {"several", vmSeveral}, {"late", vmLate},
	} {
		if !t.Run(part.name, func(t *testing.T) {
			here, fleet := *v, *v.labFleet
			fleet.t = t
			here.labFleet = &fleet
			part.run(t, &here)
			v.server, v.agents = here.server, here.agents
		}) {
			return
		}
	}
	for _, g := range v.guests {
		cleanLog(v.ctx, t, g)
	}
}

// vmRefused: what cannot be is refused before the VM is touched, and virsh's user
// reads why.
func vmRefused(t *testing.T, v *labVMs) {
	vm1, vm2, vm3 := v.vms["vm1"], v.vms["vm2"], v.vms["vm3"]
	v.story.section("Refused", "By the hook on the target, before the VM is touched.")
	before := v.all()
	refused := func(vm *labVM, to string, texts ...string) {
		t.Helper()
		v.types(vm.host, 1, append(texts, "Hook script execution failed"), migrateArgs(vm, to)...)
		v.stays(vm, before)
	}
	v.story.note("A device of the new type, to hardware that offers the old one alone:")
	refused(vm3, "gen8", "type.not-offered")
	v.story.note("To a host whose driver lacks a feature that the VM was given:")
	refused(vm1, "poor", "attribute.lacks", "features")
	v.story.note("Two devices, and room for one:")
	refused(vm2, "gen9", "no-room")
	v.story.note("With no server:")
	v.server.kill()
	began := time.Now()
	v.types(vm1.host, 1, []string{"Hook script execution failed", "server"}, migrateArgs(vm1, "gen9")...)
	t.Logf("refused after %v", time.Since(began))
	v.startServer()
	v.stays(vm1, before)
}

// vmMoved: there and back, and what is on record.
func vmMoved(t *testing.T, v *labVMs) {
	vm1 := v.vms["vm1"]
	v.story.section("Moved", "To newer hardware, as a device of the old type there; and back.")
	v.migrates(vm1, "gen9")
	v.migrates(vm1, "gen8")
	v.story.note("The server is killed while the VM is on its way, and started when it is there:")
	argv := migrateArgs(vm1, "gen9", "--bandwidth", "1")
	done := v.begin("gen8", argv...)
	v.halfWay(vm1, done)
	v.server.kill()
	v.virshOK("gen8", "migrate-setspeed", "vm1", "1000")
	v.checks("gen8", v.ends("with no server", done), 0, nil, argv...)
	v.startServer()
	v.arrived(vm1, "gen9")
	v.migrates(vm1, "gen8")
	v.story.note("The follower that the hook left is killed. The next call of the hook leaves another, here by libvirt's daemon, which is started again:")
	done = v.begin("gen8", argv...)
	v.halfWay(vm1, done)
	sh(v.ctx, t, v.guests["gen9"].Client, "kill -9 $(grep -lz -e '^--follow$' /proc/[0-9]*/cmdline | cut -d / -f 3)")
	v.virshOK("gen8", "migrate-setspeed", "vm1", "1000")
	v.checks("gen8", v.ends("with no follower", done), 0, nil, argv...)
	m := v.migrationOf(vm1, "gen8", "gen9")
	if m.State != api.HandedOver || m.Host != "gen8" {
		t.Errorf("nobody said how it ended, and it is %s, the devices are %s's", m.State, m.Host)
	}
	v.types("gen9", 0, nil, "sh", "-c", "kill $(cat /run/libvirtd.pid); while test -e /run/libvirtd.pid; do sleep 0.1; done")
	v.startLibvirt("gen9")
	v.arrived(vm1, "gen9")
	v.migrates(vm1, "gen8")
	v.story.note("What is on record of it:")
	code, stdout, stderr := v.run("kindred", "proof", "list")
	v.checks("server", hasEnded{code, stdout, stderr}, 0, []string{"observed", "accepted"}, "kindred", "proof", "list")
}

// vmFails: whatever breaks on the way, the VM runs on where it was.
func vmFails(t *testing.T, v *labVMs) {
	vm1 := v.vms["vm1"]
	v.story.section("Broken off", "While the VM's memory and the device's state are on their way.")
	before := v.all()
	onTheWay := func(what string, disturb, mend func()) {
		t.Helper()
		v.story.note("%s", what)
		argv := migrateArgs(vm1, "gen9", "--bandwidth", "1")
		done := v.begin("gen8", argv...)
		v.halfWay(vm1, done)
		disturb()
		r := v.ends(what, done)
		mend()
		v.checks("gen8", r, 1, nil, argv...)
		v.stays(vm1, before)
	}
	on := func(host, script string) func() {
		return func() { t.Helper(); sh(v.ctx, t, v.guests[host].Client, script) }
	}
	nothing := func() {}
	onTheWay("The user gives it up (`virsh domjobabort vm1`):", on("gen8", "virsh -q domjobabort vm1"), nothing)
	onTheWay("libvirt's daemon on the target is killed:", on("gen9", "kill -9 $(cat /run/libvirtd.pid)"), func() { v.startLibvirt("gen9") })
	onTheWay("The VM's QEMU on the target is killed:", on("gen9", "kill -9 $(cat /run/libvirt/qemu/vm1.pid)"), nothing)
	onTheWay("The cable is pulled out:", func() { v.lan.Cut("gen9") }, func() { v.lan.Join("gen9") })
	onTheWay("The driver on the target refuses what comes (`fault_write_at`):",
		on("gen9", "echo 1 > /sys/module/kdx_gen9/parameters/fault_write_at; virsh -q -c qemu+tcp://gen8/system migrate-setspeed vm1 1000"),
		on("gen9", "echo -1 > /sys/module/kdx_gen9/parameters/fault_write_at"))
}

// halfWay waits until part of a VM's memory is on the other host.
func (v *labVMs) halfWay(vm *labVM, done <-chan hasEnded) {
	v.t.Helper()
	v.until(vm.name+" is on its way", func() bool {
		select {
		case r := <-done:
			v.t.Fatalf("it ended too early, with %d: %s", r.code, r.stderr)
		default:
		}
		_, stats, _ := v.virsh(vm.host, "domjobinfo", vm.name, "--rawstats")
		return dataProcessed(stats) > 1<<20
	})
}

func dataProcessed(stats string) (n int64) {
	for line := range strings.Lines(stats) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "data_processed" {
			n, _ = strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
	return n
}

// vmSeveral: two devices at once, and two VMs where there is room for one of them.
func vmSeveral(t *testing.T, v *labVMs) {
	vm1, vm2, vm3 := v.vms["vm1"], v.vms["vm2"], v.vms["vm3"]
	v.virshOK("gen9", "destroy", vm3.name)
	v.inGuest("gen9", "kindred", "device", "stop", vmNewer)
	v.reports("gen9", vmNewer, false)
	delete(v.vms, "vm3")

	v.story.section("Two devices of one VM", "Both go, or none.")
	v.migrates(vm2, "gen9")
	v.migrates(vm2, "gen8")

	v.story.section("Two VMs at once", "To one host, with room for two devices: vm1 has one, vm2 has two.")
	before := v.all()
	results := map[*labVM]<-chan hasEnded{vm1: v.begin("gen8", migrateArgs(vm1, "gen9")...), vm2: v.begin("gen8", migrateArgs(vm2, "gen9")...)}
	var went, stayed []*labVM
	for vm, done := range results {
		r := v.ends(vm.name, done)
		if r.code == 0 {
			v.checks("gen8", r, 0, nil, migrateArgs(vm, "gen9")...)
			went = append(went, vm)
			continue
		}
		v.checks("gen8", r, 1, []string{"no-room"}, migrateArgs(vm, "gen9")...)
		stayed = append(stayed, vm)
	}
	if len(went) != 1 || len(stayed) != 1 {
		t.Fatalf("%d went and %d stayed, want one of each", len(went), len(stayed))
	}
	v.arrived(went[0], "gen9")
	v.goesOn(stayed[0])
	v.migrates(went[0], "gen8")
	if after := v.all(); len(before["gen8"]) != len(after["gen8"]) {
		t.Errorf("gen8 had %v and has %v", before["gen8"], after["gen8"])
	}
}

// vmLate: a driver that refuses when it has all of the state. QEMU 10 makes the
// device new and goes on: virsh is told nothing, the VM finds a gap.
func vmLate(t *testing.T, v *labVMs) {
	vm2 := v.vms["vm2"]
	v.story.section("Refused at the very end", "A driver may find only when it has all of it that it cannot take the state, as some do that verify a sum. QEMU 10 then\n"+
		"resets the device and lets the VM run, and virsh says nothing. Kindred reads it in QEMU's log: the move is on record as refused by the driver.")
	v.inGuest("gen9", "sh", "-c", "echo 1 > /sys/module/kdx_gen9/parameters/fault_stop")
	v.types("gen8", 0, nil, migrateArgs(vm2, "gen9")...)
	v.inGuest("gen9", "sh", "-c", "echo 0 > /sys/module/kdx_gen9/parameters/fault_stop")
	from := vm2.host
	v.moved(vm2, "gen9")
	v.until("the VM notices", func() bool { return strings.Contains(v.serial(vm2), "GAP") })
	m := v.gets(v.migrationOf(vm2, from, "gen9").ID, api.Completed)
	v.nothingHeld()
	for _, argv := range [][]string{{"migration", "show", m.ID}, {"proof", "list"}} {
		code, stdout, stderr := v.run("kindred", argv...)
		want := map[string]string{"migration": "a driver refused the state", "proof": "rejected"}[argv[0]]
		v.checks("server", hasEnded{code, stdout, stderr}, 0, []string{want}, append([]string{"kindred"}, argv...)...)
	}
}
