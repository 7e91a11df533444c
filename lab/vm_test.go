// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"strings"
	"testing"

	"kindred/api"
)

// Devices of VMs, by fixed names.
const (
	vmDevice = "83b8f4f2-509f-382f-3c1e-e6bfe0fa7001"
	vmID     = "5d0c8a9e-4f1e-4a5b-8c3d-000000000001"
)

// TestVMByHand moves a VM with its device by what its user types, without any
// hook: Kindred says where to, makes the device there and is told how it ended.
func TestVMByHand(t *testing.T) {
	needVMs(t)
	old, young := known(t, "gen8-open"), known(t, "gen9-open")
	old.Name, young.Name = "gen8", "gen9"
	v := newVMs(t, old, young)
	v.inGuest("gen8", "kindred", "device", "start", vmDevice, "-p", fleetParent, "-t", fleetType)
	v.reports("gen8", vmDevice, true)
	vm := &labVM{name: "vm1", id: vmID, ballast: 8, devices: []string{vmDevice}}
	v.start("gen8", vm)
	v.reports("gen9", vmDevice, false)

	m := new(api.Migration)
	v.asks(0, m, nil, "migration", "create", vmDevice, "--target", "gen9", "--wait", patience.String())
	v.asks(0, nil, nil, "migration", "hand-over", m.ID)
	target := m.Devices[0].Target
	there := strings.Replace(v.virshOK("gen8", "dumpxml", "--migratable", "vm1"), vmDevice, target, 1)
	if err := v.guests["gen8"].Put(v.ctx, "/tmp/there.xml", 0o644, strings.NewReader(there)); err != nil {
		t.Fatal(err)
	}
	v.virshOK("gen8", "migrate", "--live", "--p2p", "--persistent", "--undefinesource", "--xml", "/tmp/there.xml", "--persistent-xml", "/tmp/there.xml",
		"vm1", "qemu+tcp://gen9/system")
	v.moved(vm, "gen9")
	v.asks(0, nil, nil, "migration", "complete", m.ID)
	v.gets(m.ID, api.Completed)
	v.goesOn(vm)
	if v.there("gen8", vmDevice) || !v.there("gen9", target) {
		t.Error("the source's device is still there, or the target's is not")
	}
	v.defined(t, "gen9", target)
	t.Log(v.virshOK("gen9", "domjobinfo", "vm1", "--completed"))
}
