// SPDX-License-Identifier: Apache-2.0

package vfio

import (
	"errors"
	"fmt"
	"runtime"
	"structs"
	"unsafe"

	"golang.org/x/sys/unix"

	"kindred/inventory"
)

// Numbers of include/uapi/linux/vfio.h. All are _IO(';', n), so they carry no
// size; the direction bits differ on powerpc, mips, sparc and alpha.
const (
	groupGetStatus    = 0x3b67
	groupSetContainer = 0x3b68
	groupGetDeviceFD  = 0x3b6a
	containerSetIOMMU = 0x3b66
	deviceFeature     = 0x3b75
	type1v2           = 3
	groupViable       = 1 << 0
	featureGet        = 1 << 16
	featureMigration  = 1
	migrationStopCopy = 1 << 0
	migrationP2P      = 1 << 1
	migrationPreCopy  = 1 << 2
)

type groupStatus struct {
	_     structs.HostLayout
	argsz uint32
	flags uint32
}

type migrationFeature struct {
	_     structs.HostLayout
	argsz uint32
	flags uint32 // feature index and operation
	mig   uint64 // what the device supports
}

// Probe opens an idle device and asks it for its migration features. The
// caller answers for the device being idle and Kindred's own: opening a device
// somebody uses disturbs it. id is the mdev's UUID or the PCI address, group
// the number of its IOMMU group.
func Probe(id, group string) (*inventory.Migration, error) {
	fail := func(step string, err error) (*inventory.Migration, error) {
		return nil, fmt.Errorf("probe %s: %s: %w", id, step, err)
	}
	container, err := unix.Open("/dev/vfio/vfio", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail("open /dev/vfio/vfio (is vfio_iommu_type1 loaded?)", err)
	}
	defer unix.Close(container)
	groupFD, err := unix.Open("/dev/vfio/"+group, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail("open /dev/vfio/"+group, err)
	}
	defer unix.Close(groupFD)
	status := groupStatus{argsz: uint32(unsafe.Sizeof(groupStatus{}))}
	if _, err := ioctl(groupFD, groupGetStatus, unsafe.Pointer(&status)); err != nil {
		return fail("ask the group's status", err)
	}
	if status.flags&groupViable == 0 {
		return fail("the group", errors.New("not viable: a device in it is bound to another driver"))
	}
	fd := int32(container)
	if _, err := ioctl(groupFD, groupSetContainer, unsafe.Pointer(&fd)); err != nil {
		return fail("put the group into the container", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(container), containerSetIOMMU, type1v2); errno != 0 {
		return fail("set the IOMMU type", errno)
	}
	name, err := unix.BytePtrFromString(id)
	if err != nil {
		return fail("its name", err)
	}
	device, err := ioctl(groupFD, groupGetDeviceFD, unsafe.Pointer(name))
	if err != nil {
		return fail("open the device", err)
	}
	defer unix.Close(device)
	feature := migrationFeature{flags: featureGet | featureMigration}
	feature.argsz = uint32(unsafe.Sizeof(feature))
	switch _, err := ioctl(device, deviceFeature, unsafe.Pointer(&feature)); {
	case errors.Is(err, unix.ENOTTY): // the driver has no migration operations
		return &inventory.Migration{Can: inventory.No, Source: "probe"}, nil
	case err != nil:
		return fail("ask for its migration features", err)
	}
	return migration(feature.mig), nil
}

// migration reads the flags of struct vfio_device_feature_migration.
func migration(flags uint64) *inventory.Migration {
	m := &inventory.Migration{Can: inventory.No, Source: "probe"}
	for _, f := range []struct {
		bit  uint64
		name string
	}{{migrationStopCopy, "stop-copy"}, {migrationP2P, "p2p"}, {migrationPreCopy, "pre-copy"}} {
		if flags&f.bit != 0 {
			m.Flags = append(m.Flags, f.name)
		}
	}
	if flags&migrationStopCopy != 0 { // without it no other flag means anything
		m.Can = inventory.Yes
	}
	return m
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	runtime.KeepAlive(arg)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
