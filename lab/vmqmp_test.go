// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindred/api"
)

// TestVMByQMP does what docs/libvirt.md says for VMs that libvirt does not manage:
// two real QEMUs, the target's started by hand with the device that was prepared.
func TestVMByQMP(t *testing.T) {
	old, young := known(t, "gen8-open"), known(t, "gen9-open")
	old.Name, young.Name = "gen8", "gen9"
	v := newVMs(t, old, young)
	v.administrates("gen8")
	v.inGuest("gen8", "kindred", "device", "start", vmDevice, "-p", fleetParent, "-t", fleetType)
	v.reports("gen8", vmDevice, true)
	vm := &labVM{name: "desk", id: vmID, ballast: 8, devices: []string{vmDevice}, host: "gen8", offset: make(map[string]int)}
	v.vms[vm.name] = vm
	v.qemu("gen8", vm, vmDevice)
	v.goesOn(vm)

	const socket = "/run/desk.qmp"
	v.types("gen8", 0, []string{"desk", vmDevice[:8]}, "kindred", "vm", "list", "--qmp", socket)
	v.types("gen8", 0, []string{"gen9", "ready"}, "kindred", "vm", "targets", "desk", "--qmp", socket)
	v.types("gen8", 0, nil, "kindred", "vm", "check", "desk", "gen9", "--qmp", socket)
	// Nobody listens: the VM stays, and its device with it.
	before := v.all()
	v.types("gen8", 1, []string{"desk stays on gen8"}, "kindred", "vm", "migrate", "desk", "gen9", "--qmp", socket, "--to", "tcp:gen9:4444")
	v.nothingHeld()
	v.goesOn(vm)
	v.until("the hosts have what they had", func() bool { return cmp.Diff(before, v.all()) == "" })

	m := new(api.Migration)
	v.asks(0, m, nil, "migration", "create", "gen8/"+vmDevice, "--target", "gen9", "--owner", "desk", "--wait", patience.String())
	target := m.Devices[0].Target
	v.qemu("gen9", vm, target, "-incoming", "tcp:0:4444")
	v.types("gen8", 0, []string{"desk runs on gen9", "completing", "still has its devices open: end it"}, "kindred", "vm", "migrate", "desk", "gen9", "--qmp", socket, "--to", "tcp:gen9:4444")
	v.moved(vm, "gen9")
	// The source's QEMU has the device open: it stays until that one ends.
	if !v.there("gen8", vmDevice) {
		t.Error("the device was removed while a QEMU had it open")
	}
	sh(v.ctx, t, v.guests["gen8"].Client, "kill $(cat /run/desk.pid)")
	v.gets(m.ID, api.Completed)
	vm.devices[0] = target
	v.goesOn(vm)
	v.until("the source's device is gone", func() bool { return !v.there("gen8", vmDevice) })
	v.nothingHeld()
	v.defined(t, "gen9", target)
	t.Log(v.progress(vm))
	for _, g := range v.guests {
		cleanLog(v.ctx, t, g)
	}
}

// qemu starts a QEMU with a device, as one does who has no libvirt.
func (v *labVMs) qemu(host string, vm *labVM, device string, more ...string) {
	v.t.Helper()
	v.inGuest(host, append(strings.Fields(fmt.Sprintf("qemu-system-x86_64 -name %[1]s -uuid %[2]s -machine q35,accel=tcg -cpu qemu64 -m 64 -nodefaults -display none "+
		"-kernel /var/lib/vm -append ballast=%[3]d -chardev file,id=serial,path=/var/log/%[1]s.serial,append=on -serial chardev:serial "+
		"-device vfio-pci,sysfsdev=/sys/bus/mdev/devices/%[4]s,enable-migration=on -qmp unix:/run/%[1]s.qmp,server=on,wait=off -pidfile /run/%[1]s.pid -daemonize",
		vm.name, vm.id, vm.ballast, device)), more...)...)
}
