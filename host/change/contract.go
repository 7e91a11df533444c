// SPDX-License-Identifier: Apache-2.0

package change

import (
	"path"

	"kindred/host/mdev"
	"kindred/host/nvidia"
	"kindred/host/pci"
	"kindred/host/record"
	"kindred/host/tree"
	"kindred/inventory"
)

// contract is what the device, which was just made, promises its guest: its
// type and attributes as the kernel shows them now. What cannot be read is not
// observed, and a promise that no inventory could hold is none.
func (h *Host) contract(id string, r *record.Device) *inventory.Contract {
	dev, typ, ok := h.read(id, r)
	if !ok {
		return nil
	}
	host, _ := tree.FileText(h.Machine, "proc/sys/kernel/hostname")
	c := &inventory.Contract{
		Type: dev.Type, Label: typ.Label, DeviceAPI: typ.DeviceAPI, TypeAttributes: typ.Attributes,
		DeviceAttributes: dev.Attributes, Host: host, Recorded: now(),
	}
	if (&record.Device{Contract: c}).Check() != nil {
		return nil
	}
	return c
}

// read reads one device and its type.
func (h *Host) read(id string, r *record.Device) (inventory.Device, inventory.Type, bool) {
	ignore := func(string, error) {}
	if r.Kind == inventory.Mdev {
		return mdev.Read(h.Machine, id)
	}
	driver, err := linkBase(h.Machine, path.Join(pci.Devices, id, "driver"))
	if err != nil || driver == "" {
		return inventory.Device{}, inventory.Type{}, false
	}
	bound := []pci.Bound{{Address: id, Driver: driver}}
	list := pci.Functions
	if r.Kind == inventory.VGPU {
		list = nvidia.Read
	}
	parents, devices := list(h.Machine, bound, ignore)
	if len(devices) != 1 || len(parents) != 1 {
		return inventory.Device{}, inventory.Type{}, false
	}
	typ := parents[0].Type(devices[0].Type)
	if typ == nil {
		return inventory.Device{}, inventory.Type{}, false
	}
	return devices[0], *typ, true
}
