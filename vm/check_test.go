// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"strings"
	"testing"

	"kindred/inventory"
	"kindred/vm"
)

const nic = "0000:41:02.1"

// source is a host with two devices in use.
func source() *inventory.Inventory {
	gpuType := inventory.TypeName{Namespace: "kdx", Name: "V4_4"}
	can := &inventory.Migration{Can: inventory.Yes, Source: "probe", Flags: []string{"stop-copy", "p2p"}}
	return &inventory.Inventory{
		Host:    inventory.Host{Name: "a", Kernel: inventory.Kernel{Release: inventory.Of("6.12.117+deb12-amd64")}},
		Parents: []inventory.Parent{{Name: "p", Types: []inventory.Type{{TypeName: gpuType, Migration: can}}}},
		Devices: []inventory.Device{
			{ID: gpu, Kind: inventory.Mdev, Parent: "p", Type: gpuType, InUse: inventory.Yes},
			{ID: nic, Kind: inventory.VF, Parent: "q", InUse: inventory.Yes, Migration: can},
		},
	}
}

// TestConditions: each condition met, not met, and not known.
func TestConditions(t *testing.T) {
	for name, c := range map[string]struct {
		change func(g *vm.Guest, a, b *inventory.Inventory)
		code   string
		met    inventory.Answer
		says   string
	}{
		"all is well":     {func(*vm.Guest, *inventory.Inventory, *inventory.Inventory) {}, vm.VMP2P, inventory.Yes, "every device"},
		"one device":      {func(g *vm.Guest, _, _ *inventory.Inventory) { g.Devices = g.Devices[:1] }, "", inventory.Yes, ""},
		"off":             {func(g *vm.Guest, _, _ *inventory.Inventory) { g.State = vm.Off }, vm.VMState, inventory.No, "it is off"},
		"no device":       {func(g *vm.Guest, _, _ *inventory.Inventory) { g.Devices = nil }, vm.VMDevices, inventory.No, "none of the host's"},
		"not reported":    {func(_ *vm.Guest, a, _ *inventory.Inventory) { a.Devices = a.Devices[:1] }, vm.VMDevices, inventory.No, "has not reported " + nic},
		"not seen in use": {func(_ *vm.Guest, a, _ *inventory.Inventory) { a.Devices[1].InUse = inventory.No }, vm.VMDevices, inventory.Unknown, "older than the VM"},
		"an old kernel":   {func(_ *vm.Guest, _, b *inventory.Inventory) { b.Host.Kernel.Release = inventory.Of("5.17.3") }, vm.VMKernel, inventory.No, "5.17.3 is too old"},
		"old here":        {func(_ *vm.Guest, a, _ *inventory.Inventory) { a.Host.Kernel.Release = inventory.Of("4.18.0-553.el8") }, vm.VMKernel, inventory.No, "too old"},
		"just new enough": {func(_ *vm.Guest, _, b *inventory.Inventory) { b.Host.Kernel.Release = inventory.Of("5.18-rc1") }, vm.VMKernel, inventory.Yes, ""},
		"no release":      {func(_ *vm.Guest, _, b *inventory.Inventory) { b.Host.Kernel.Release = inventory.Value{} }, vm.VMKernel, inventory.Unknown, "no release is known"},
		"an odd release":  {func(_ *vm.Guest, _, b *inventory.Inventory) { b.Host.Kernel.Release = inventory.Of("linux") }, vm.VMKernel, inventory.Unknown, "no release is known"},
		"no P2P": {func(_ *vm.Guest, a, _ *inventory.Inventory) {
			a.Devices[1].Migration = &inventory.Migration{Flags: []string{"stop-copy"}}
		}, vm.VMP2P, inventory.No, nic + " has no P2P"},
		"P2P not observed": {func(_ *vm.Guest, a, _ *inventory.Inventory) { a.Parents[0].Types[0].Migration = nil }, vm.VMP2P, inventory.Unknown, "QEMU knows"},
		"no and not known": {func(_ *vm.Guest, a, _ *inventory.Inventory) {
			a.Parents[0].Types[0].Migration = nil
			a.Devices[1].Migration = &inventory.Migration{Flags: []string{"stop-copy"}}
		}, vm.VMP2P, inventory.No, "no P2P"},
		"a parent unheard": {func(_ *vm.Guest, a, _ *inventory.Inventory) { a.Parents = nil }, vm.VMP2P, inventory.Unknown, "not observed"},
	} {
		a, b := source(), &inventory.Inventory{Host: inventory.Host{Name: "b", Kernel: inventory.Kernel{Release: inventory.Of("6.1.0")}}}
		g := &vm.Guest{Name: "desk", State: vm.Running, Devices: []vm.Device{{ID: gpu, Mdev: true}, {ID: nic}}}
		c.change(g, a, b)
		list := vm.Conditions(g, a, b)
		if met := vm.Met(list); met != c.met {
			t.Errorf("%s: %s, want %s", name, met, c.met)
		}
		found := c.code == ""
		for _, one := range list {
			if one.Code == c.code {
				found = one.Met == c.met && strings.Contains(one.Detail, c.says)
			}
		}
		if !found {
			t.Errorf("%s: %+v, want %s %s %q", name, list, c.code, c.met, c.says)
		}
	}
}
