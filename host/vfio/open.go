// SPDX-License-Identifier: Apache-2.0

package vfio

import "errors"

// OpenOptions say how to open a device.
type OpenOptions struct {
	Path Path
}

// Path is a way to a device's file. A kernel has one or both.
type Path string

const (
	PathAny   Path = ""      // by cdev where there is one, else by group
	PathCdev  Path = "cdev"  // /dev/vfio/devices/vfioN and /dev/iommu
	PathGroup Path = "group" // /dev/vfio/N and /dev/vfio/vfio
)

// Why a device was not opened, as far as callers decide by it.
var (
	// ErrNoDevice: neither the mdev nor the PCI bus has it, or no VFIO driver.
	ErrNoDevice = errors.New("no such VFIO device")
	// ErrBusy: somebody has the device or its group open.
	ErrBusy = errors.New("in use: somebody has it open")
	// ErrNotViable: a device of its IOMMU group is bound to another driver.
	ErrNotViable = errors.New("its group is not viable: a device in it is bound to a driver that is not VFIO's")
	// ErrNoPath: the kernel does not have the way that was asked for.
	ErrNoPath = errors.New("the kernel has no such way to the device")
)
