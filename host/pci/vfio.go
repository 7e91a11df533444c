// SPDX-License-Identifier: Apache-2.0

package pci

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"kindred/host/tree"
	"kindred/inventory"
)

// Functions lists the functions bound to a VFIO driver as devices, and their
// physical functions as parents. Functions that skip reports are left to
// another reader. Types have no room yet: that needs to be known in use.
func Functions(d tree.Dir, skip func(address string) bool, warn tree.Warn) ([]inventory.Parent, []inventory.Device) {
	entries, err := d.ReadDir(Devices)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // a machine without PCI
			warn(Devices, err)
		}
		return nil, nil
	}
	var parents []inventory.Parent
	var devices []inventory.Device
	byName := make(map[string]int)
	for _, e := range entries {
		link := path.Join(Devices, e.Name)
		driver := tree.LinkBase(d, path.Join(link, "driver"), warn)
		name, bound := driver.Get()
		if !bound {
			continue
		}
		node, isVFIO := vfioNode(d, link, name, warn)
		if !isVFIO || skip(e.Name) {
			continue
		}
		dir, err := tree.Target(d, link)
		if err != nil {
			warn(link, err)
			continue
		}
		dev := inventory.Device{
			ID: e.Name, Kind: inventory.Function, Parent: e.Name, Driver: driver,
			PCI: Read(d, dir, warn), Node: node, InUse: inventory.Unknown,
			Group:      tree.LinkBase(d, path.Join(dir, "iommu_group"), warn),
			Attributes: inventory.Attributes{Complete: true}, // VFIO drivers publish none on the function
		}
		if pf, isVF := dev.PCI.PF.Get(); isVF {
			dev.Kind, dev.Parent = inventory.VF, pf
		}
		dev.Type = inventory.TypeName{Namespace: name, Name: typeName(dev.PCI)}
		i, known := byName[dev.Parent]
		if !known {
			i = len(parents)
			byName[dev.Parent] = i
			parents = append(parents, readParent(d, dir, &dev, warn))
		}
		if dev.Type.Name != "" {
			offer(&parents[i], &dev, warn)
		}
		devices = append(devices, dev)
	}
	return parents, devices
}

// vfioNode returns the vfio-dev name of a function bound to a VFIO driver
// (drivers/vfio/vfio_main.c registers it since 6.1). On older kernels the name
// of the driver has to do.
func vfioNode(d tree.Dir, dir, driver string, warn tree.Warn) (inventory.Value, bool) {
	entries, err := d.ReadDir(path.Join(dir, "vfio-dev"))
	switch {
	case err == nil && len(entries) > 0:
		return inventory.Of(entries[0].Name), true
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		warn(path.Join(dir, "vfio-dev"), err)
	}
	name := strings.ReplaceAll(driver, "-", "_")
	return inventory.Value{}, name == "vfio_pci" || strings.HasSuffix(name, "_vfio_pci")
}

// typeName is <vendor>:<device> in hexadecimal without 0x. It is empty when
// either is unknown: such a function offers no type.
func typeName(f *inventory.PCI) string {
	vendor, ok := f.Vendor.Get()
	device, ok2 := f.Device.Get()
	if !ok || !ok2 {
		return ""
	}
	return strings.TrimPrefix(vendor, "0x") + ":" + strings.TrimPrefix(device, "0x")
}

// readParent reads the physical function of dev, whose own directory is dir; a
// function without one is its own parent.
func readParent(d tree.Dir, dir string, dev *inventory.Device, warn tree.Warn) inventory.Parent {
	if dev.Kind == inventory.VF {
		target, err := tree.Target(d, path.Join(Devices, dev.Parent))
		if err != nil {
			warn(path.Join(Devices, dev.Parent), err)
			return inventory.Parent{Name: dev.Parent, Kind: inventory.FunctionParent, Namespace: dev.Type.Namespace}
		}
		dir = target
	}
	return inventory.Parent{
		Name: dev.Parent, Path: dir, Kind: inventory.FunctionParent, Namespace: dev.Type.Namespace,
		Driver:   tree.LinkBase(d, path.Join(dir, "driver"), warn),
		PCI:      Read(d, dir, warn),
		NUMANode: tree.ReadValue(d, path.Join(dir, "numa_node"), warn),
		Group:    tree.LinkBase(d, path.Join(dir, "iommu_group"), warn),
	}
}

// offer adds the type of dev to its parent, or checks it against the siblings
// that have the same type already.
func offer(p *inventory.Parent, dev *inventory.Device, warn tree.Warn) {
	attrs := visible(dev.PCI)
	if t := p.Type(dev.Type); t != nil {
		for name, v := range attrs.Values {
			if t.Attributes.Get(name) != v {
				warn(path.Join(Devices, dev.ID), errors.New(name+" differs between functions of the type "+dev.Type.Full()))
				t.Attributes.Forget(name)
			}
		}
		return
	}
	if p.Namespace != dev.Type.Namespace {
		p.Namespace = "" // functions of several drivers: each type names its own
	}
	p.Types = append(p.Types, inventory.Type{
		TypeName: dev.Type, DeviceAPI: inventory.Of("vfio-pci"), Creatable: inventory.Unknown,
		ListedBy: inventory.ListedByKernel, Attributes: attrs,
	})
}

// visible is the configuration of a function that its guest can see.
func visible(f *inventory.PCI) inventory.Attributes {
	attrs := inventory.Attributes{Complete: true}
	for name, v := range map[string]inventory.Value{
		"subsystem_vendor": f.SubsystemVendor, "subsystem_device": f.SubsystemDevice,
		"class": f.Class, "revision": f.Revision, "bars": f.BARs,
	} {
		if text, ok := v.Get(); ok {
			attrs.Set(name, text)
		} else {
			attrs.Forget(name)
		}
	}
	return attrs
}
