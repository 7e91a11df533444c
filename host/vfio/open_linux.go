// SPDX-License-Identifier: Apache-2.0

package vfio

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"kindred/host/tree"
)

// Open opens an mdev by its UUID, or a PCI function by its address, and resets it
// unless it is RUNNING: what somebody left half way is of no use, and mtty of
// Linux 6.12 oopses when a device that was closed while RESUMING is stopped
// (mtty_load_state). Who opens a device must have a right to it: while it is
// open no other can, and an open device cannot be removed.
func Open(id string, o OpenOptions) (Device, error) {
	d, err := open(id, o.Path)
	if err != nil {
		return nil, fmt.Errorf("open VFIO device %s: %w", id, err)
	}
	if err := d.toRunning(); err != nil {
		d.release()
		return nil, fmt.Errorf("open VFIO device %s: %w", id, err)
	}
	return d, nil
}

// open opens the device as it is.
func open(id string, way Path) (*device, error) {
	root, err := tree.Open("/")
	if err != nil {
		return nil, err
	}
	defer root.Close()
	p, err := find(root, id)
	if err != nil {
		return nil, err
	}
	if way == PathAny {
		way = PathGroup
		if p.cdev != "" {
			way = PathCdev
		}
	}
	switch {
	case way == PathCdev && p.cdev != "":
		return openCdev(p.id, p.cdev)
	case way == PathGroup && p.group != "":
		return openGroup(p.id, p.group)
	}
	return nil, fmt.Errorf("by %s: %w", way, ErrNoPath)
}

// place is where a device's files are, empty for what the kernel does not have.
type place struct {
	id    string // as the kernel writes it
	group string // the number of its IOMMU group
	cdev  string // its name in /dev/vfio/devices
}

// find looks for the device on both buses.
func find(root tree.Dir, id string) (place, error) {
	if id == "" || strings.Contains(id, "/") || strings.HasPrefix(id, ".") {
		return place{}, fmt.Errorf("%q is no name of a device: %w", id, ErrNoDevice)
	}
	id = strings.ToLower(id)
	for _, dir := range []string{"sys/bus/mdev/devices/" + id, "sys/bus/pci/devices/" + id} {
		_, err := root.Mode(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return place{}, err
		}
		return findIn(root, dir)
	}
	return place{}, fmt.Errorf("neither in sys/bus/mdev/devices nor in sys/bus/pci/devices: %w", ErrNoDevice)
}

func findIn(root tree.Dir, dir string) (place, error) {
	p := place{id: path.Base(dir)}
	// Linux has this directory since 6.1, for every device that a VFIO driver has.
	devices, err := root.ReadDir(dir + "/vfio-dev")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return place{}, err
	}
	link, err := root.Readlink(dir + "/iommu_group")
	switch {
	case err == nil:
		p.group = path.Base(link)
	case !errors.Is(err, fs.ErrNotExist):
		return place{}, err
	}
	if len(devices) > 0 && exists(root, "dev/iommu") && exists(root, "dev/vfio/devices/"+devices[0].Name) {
		p.cdev = devices[0].Name
	}
	if p.cdev == "" && (p.group == "" || !exists(root, "dev/vfio/"+p.group)) {
		return place{}, fmt.Errorf("%s is bound to no VFIO driver (neither dev/vfio/%s nor dev/vfio/devices has it): %w", dir, p.group, ErrNoDevice)
	}
	return p, nil
}

func exists(root tree.Dir, name string) bool {
	_, err := root.Mode(name)
	return err == nil
}

// files collects descriptors that are to be closed together, the last one first.
type files []int

func (f *files) open(name string) (int, error) {
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", name, err)
	}
	*f = append(*f, fd)
	return fd, nil
}

func (f *files) close() {
	for i := len(*f) - 1; i >= 0; i-- {
		unix.Close((*f)[i])
	}
	*f = nil
}

// openGroup goes by group and container. The order is the kernel's: without an
// IOMMU type the container gives no device (container.c:503).
func openGroup(id, group string) (_ *device, err error) {
	var held files
	defer func() {
		if err != nil {
			held.close()
		}
	}()
	container, err := held.open("/dev/vfio/vfio")
	if err != nil {
		return nil, fmt.Errorf("%w (is vfio_iommu_type1 loaded?)", err)
	}
	groupFD, err := held.open("/dev/vfio/" + group)
	if errors.Is(err, unix.EBUSY) { // a group is opened once (group.c:470)
		return nil, fmt.Errorf("%w (%w)", ErrBusy, err)
	}
	if err != nil {
		return nil, err
	}
	status := groupStatus{argsz: sizeof(&groupStatus{})}
	if _, err := ioctl(groupFD, groupGetStatus, unsafe.Pointer(&status)); err != nil {
		return nil, fmt.Errorf("ask the group's status: %w", err)
	}
	if status.flags&groupViable == 0 {
		return nil, ErrNotViable
	}
	fd := int32(container)
	if _, err := ioctl(groupFD, groupSetContainer, unsafe.Pointer(&fd)); err != nil {
		return nil, fmt.Errorf("put the group into the container: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(container), containerSetIOMMU|ioctlNone, type1v2); errno != 0 {
		return nil, fmt.Errorf("set the IOMMU type: %w", errno)
	}
	name, err := unix.BytePtrFromString(id)
	if err != nil {
		return nil, fmt.Errorf("its name: %w", err)
	}
	dev, err := ioctl(groupFD, groupGetDeviceFD, unsafe.Pointer(name))
	switch {
	case errors.Is(err, unix.ENODEV):
		return nil, fmt.Errorf("the group does not have it: %w (%w)", ErrNoDevice, err)
	case errors.Is(err, unix.EBUSY):
		return nil, fmt.Errorf("%w (%w)", ErrBusy, err)
	case err != nil:
		return nil, fmt.Errorf("open the device: %w", err)
	}
	return newDevice(id, dev, held), nil
}

// openCdev goes by the device's own file. Nothing maps memory for the device, so
// no address space is attached: migration needs none.
func openCdev(id, cdev string) (_ *device, err error) {
	var held files
	defer func() {
		if err != nil {
			held.close()
		}
	}()
	iommu, err := held.open("/dev/iommu")
	if err != nil {
		return nil, err
	}
	dev, err := held.open("/dev/vfio/devices/" + cdev)
	if err != nil {
		return nil, err
	}
	bind := bindIOMMUFD{argsz: sizeof(&bindIOMMUFD{}), iommufd: int32(iommu)}
	_, err = ioctl(dev, deviceBindIOMMUFD, unsafe.Pointer(&bind))
	switch {
	// EBUSY when its group is open, EINVAL when another has bound this device
	// (device_cdev.c:91, vfio_main.c:573): the arguments are right.
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EINVAL):
		return nil, fmt.Errorf("%w (%w)", ErrBusy, err)
	case err != nil:
		return nil, fmt.Errorf("bind it to an iommufd: %w", err)
	}
	return newDevice(id, dev, held[:1]), nil
}
