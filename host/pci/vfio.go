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

// Bound is a function that is bound to a driver.
type Bound struct{ Address, Driver string }

// List lists the functions that are bound to a driver, by address, without the
// ones to skip. listed is false when there may be more.
func List(d tree.Dir, skip map[string]bool, warn tree.Warn) (list []Bound, listed bool) {
	entries, err := d.ReadDir(Devices)
	if errors.Is(err, fs.ErrNotExist) { // a machine without PCI
		return nil, true
	}
	if err != nil {
		warn(Devices, err)
		return nil, false
	}
	listed = true
	for _, e := range entries {
		if skip[e.Name] {
			continue
		}
		driver := tree.LinkBase(d, Devices+"/"+e.Name+"/driver", warn)
		listed = listed && driver.State() != inventory.NotObserved
		if name, ok := driver.Get(); ok {
			list = append(list, Bound{e.Name, name})
		}
	}
	return list, listed
}

// Functions reads those of the bound functions whose driver is one of VFIO as
// devices, and their physical functions as parents. Types have no room yet:
// that needs to be known in use.
func Functions(d tree.Dir, bound []Bound, warn tree.Warn) ([]inventory.Parent, []inventory.Device) {
	var parents []inventory.Parent
	var devices []inventory.Device
	byName := make(map[string]int)
	nodes, complete := vfioNodes(d, warn)
	for _, b := range bound {
		node, isVFIO := nodes[b.Address]
		if !isVFIO && (complete || !vfioDriver(b.Driver)) {
			continue
		}
		link := path.Join(Devices, b.Address)
		dir, err := tree.Target(d, link)
		if err != nil {
			warn(link, err)
			continue
		}
		dev := inventory.Device{
			ID: b.Address, Kind: inventory.Function, Parent: b.Address, Driver: inventory.Of(b.Driver),
			PCI: Read(d, dir, warn), Node: node, InUse: inventory.Unknown,
			Group:      tree.LinkBase(d, path.Join(dir, "iommu_group"), warn),
			Attributes: inventory.Attributes{Complete: true}, // VFIO drivers publish none on the function
		}
		if pf, isVF := dev.PCI.PF.Get(); isVF {
			dev.Kind, dev.Parent = inventory.VF, pf
		}
		dev.Type = inventory.TypeName{Namespace: b.Driver, Name: typeName(dev.PCI)}
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

// vfioNodes are the vfio-dev names of the PCI functions that VFIO drivers
// registered, by address, and whether those are all: drivers/vfio/vfio_main.c
// has the class since Linux 6.1. On older kernels drivers go by their names.
func vfioNodes(d tree.Dir, warn tree.Warn) (nodes map[string]inventory.Value, complete bool) {
	const class = "sys/class/vfio-dev"
	entries, err := d.ReadDir(class)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			warn(class, err)
		}
		return nil, false
	}
	complete = true
	nodes = make(map[string]inventory.Value, len(entries))
	for _, e := range entries {
		dir, err := tree.Target(d, class+"/"+e.Name) // <function>/vfio-dev/<node>
		if err != nil {
			warn(class+"/"+e.Name, err)
			complete = false
			continue
		}
		nodes[path.Base(path.Dir(path.Dir(dir)))] = inventory.Of(e.Name)
	}
	return nodes, complete
}

// vfioDriver tells VFIO's drivers by their names.
func vfioDriver(name string) bool {
	name = strings.ReplaceAll(name, "-", "_")
	return name == "vfio_pci" || strings.HasSuffix(name, "_vfio_pci")
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
