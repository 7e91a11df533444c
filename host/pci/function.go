// SPDX-License-Identifier: Apache-2.0

// Package pci reads PCI functions from /sys/bus/pci: what they are, what a
// guest would see of them, and which of them are bound to a VFIO driver.
//
// A function bound to a VFIO driver is a device that can be given to a VM. Its
// type is named after the variant driver that carries its state and its PCI
// vendor and device ids (mlx5_vfio_pci-15b3:101e); the physical function is
// the parent. What the guest can see of it besides (subsystem, revision,
// class, BAR sizes) are attributes of the type.
//
// Sources: Documentation/ABI/testing/sysfs-bus-pci; drivers/pci/pci-sysfs.c
// for the format of resource; include/linux/device.h for driver and physfn.
package pci

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"kindred/host/tree"
	"kindred/inventory"
)

// Devices is the directory of all functions, by address.
const Devices = "sys/bus/pci/devices"

// Read reads the function whose directory is dir (below the root).
func Read(d tree.Dir, dir string, warn tree.Warn) *inventory.PCI {
	value := func(name string) inventory.Value { return tree.ReadValue(d, path.Join(dir, name), warn) }
	f := &inventory.PCI{
		Address:         path.Base(dir),
		Vendor:          value("vendor"),
		Device:          value("device"),
		SubsystemVendor: value("subsystem_vendor"),
		SubsystemDevice: value("subsystem_device"),
		Class:           value("class"),
		Revision:        value("revision"),
		PF:              tree.LinkBase(d, path.Join(dir, "physfn"), warn),
		TotalVFs:        value("sriov_totalvfs"),
		NumVFs:          value("sriov_numvfs"),
		Override:        value("driver_override"),
	}
	if f.Override.Text() == "(null)" { // drivers/pci/pci-sysfs.c prints a NULL pointer so
		f.Override = inventory.None()
	}
	name := path.Join(dir, "resource")
	switch text, err := tree.Text(d, name); {
	case err != nil:
		warn(name, err)
	default:
		bars, err := ParseBARs(text)
		if err != nil {
			warn(name, err)
			break
		}
		f.BARs = inventory.Of(bars)
	}
	return f
}

// ParseBARs returns the sizes of BAR 0 to 5, hexadecimal and comma separated,
// from the text of a resource file: a line per resource with start, end and
// flags; an unused one is all zero.
func ParseBARs(text string) (string, error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 6 {
		return "", fmt.Errorf("%d resources, a PCI function has at least 6", len(lines))
	}
	sizes := make([]string, 6)
	for i := range sizes {
		fields := strings.Fields(lines[i])
		if len(fields) != 3 {
			return "", fmt.Errorf("resource %d: %q is not start, end and flags", i, lines[i])
		}
		var n [3]uint64
		for j, field := range fields {
			var err error
			if n[j], err = strconv.ParseUint(field, 0, 64); err != nil {
				return "", fmt.Errorf("resource %d: %w", i, err)
			}
		}
		start, end, flags := n[0], n[1], n[2]
		switch {
		case flags == 0:
			sizes[i] = "0"
		case end < start:
			return "", fmt.Errorf("resource %d ends before it starts", i)
		default:
			sizes[i] = strconv.FormatUint(end-start+1, 16)
		}
	}
	return strings.Join(sizes, ","), nil
}
