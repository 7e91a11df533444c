// SPDX-License-Identifier: Apache-2.0

// Package vfio opens VFIO devices and moves their state: migration version 2 of
// the Linux kernel, in Go alone, for devices with any driver that has it (the
// variant drivers for virtual functions, vendors' own, the sample mtty).
//
// [Open] opens an mdev by its UUID or a PCI function by its address, through its
// own file and iommufd where the kernel has that, else by group and container:
//
//	d, err := vfio.Open("83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", vfio.OpenOptions{})
//	if errors.Is(err, vfio.ErrBusy) { ... } // a VM has it
//	defer d.Close()
//
// [Save] writes a device's state to any io.Writer, and [Load] gives it to another
// device from any io.Reader. Both leave their device in STOP; SetState makes one
// of the two run:
//
//	saved, err := vfio.Save(ctx, source, file, vfio.SaveOptions{})
//	loaded, err := vfio.Load(ctx, target, file, vfio.LoadOptions{})
//	_, err = target.SetState(vfio.StateRunning)
//
// The stream is the driver's own and says nothing of its length. Who stores or
// sends it adds length and digest, and hands Load a reader that fails where they
// are wrong: the kernel does not see that a stream was cut, and several drivers
// run with one (mlx5, virtio, pds), or with the rest of one whose header they had
// refused (mtty, qat). Load therefore takes every error as final, and resets.
//
// An [*Error] says whether the driver refused the state or something else failed,
// at which step and byte, with which errno, and in which state the device was.
//
// Both work on the interface [Device], so that simulated devices behave as the
// kernel's. [Probe] and [FromDebugfs] tell an inventory whether a device can
// migrate at all; the latter opens nothing.
//
// Sources: include/uapi/linux/vfio.h; drivers/vfio/vfio_main.c, group.c,
// container.c, device_cdev.c and debugfs.c of Linux 6.12, and its variant drivers.
package vfio
