// SPDX-License-Identifier: Apache-2.0

package vfio

import (
	"fmt"
	"runtime"
	"structs"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of include/uapi/linux/vfio.h. All are _IO(';', n), so they carry no
// size; those of mips, powerpc and sparc have a direction bit, see ioctl.
const (
	containerSetIOMMU   = 0x3b66 // the type by value
	groupGetStatus      = 0x3b67
	groupSetContainer   = 0x3b68
	groupGetDeviceFD    = 0x3b6a
	deviceGetInfo       = 0x3b6b
	deviceGetRegionInfo = 0x3b6c
	deviceGetIRQInfo    = 0x3b6d
	deviceReset         = 0x3b6f
	deviceFeature       = 0x3b75
	deviceBindIOMMUFD   = 0x3b76
	migGetPrecopyInfo   = 0x3b79 // on a session
)

const (
	type1v2     = 3
	groupViable = 1 << 0

	featureGet       = 1 << 16
	featureSet       = 1 << 17
	featureMigration = 1
	featureState     = 2
	featureDataSize  = 9

	regionRead  = 1 << 0
	regionWrite = 1 << 1
)

// deviceAPIs are the kinds among a device's flags, by their bit.
var deviceAPIs = []struct {
	bit  uint32
	name string
}{
	{1 << 1, "vfio-pci"}, {1 << 2, "vfio-platform"}, {1 << 3, "vfio-amba"}, {1 << 4, "vfio-ccw"},
	{1 << 5, "vfio-ap"}, {1 << 6, "vfio-fsl-mc"}, {1 << 8, "vfio-cdx"},
}

const flagReset = 1 << 0

// What the ioctls take. argsz is the structure's own size: a kernel that knows a
// longer one leaves the rest alone.
type (
	groupStatus struct {
		_     structs.HostLayout
		argsz uint32
		flags uint32
	}
	deviceInfo struct {
		_          structs.HostLayout
		argsz      uint32
		flags      uint32
		numRegions uint32
		numIRQs    uint32
		capOffset  uint32
		pad        uint32
	}
	regionInfo struct {
		_         structs.HostLayout
		argsz     uint32
		flags     uint32
		index     uint32
		capOffset uint32
		size      uint64
		offset    uint64 // where the region begins in the device's file
	}
	irqInfo struct {
		_     structs.HostLayout
		argsz uint32
		flags uint32
		index uint32
		count uint32
	}
	bindIOMMUFD struct {
		_       structs.HostLayout
		argsz   uint32
		flags   uint32
		iommufd int32
		devID   uint32
	}
	// featureValue is struct vfio_device_feature with eight bytes of data: the
	// migration flags, or the estimate of MIG_DATA_SIZE.
	featureValue struct {
		_     structs.HostLayout
		argsz uint32
		flags uint32 // feature index and operation
		value uint64
	}
	// featureMigState is struct vfio_device_feature with a
	// vfio_device_feature_mig_state.
	featureMigState struct {
		_      structs.HostLayout
		argsz  uint32
		flags  uint32
		state  uint32
		dataFD int32 // -1 if the change opened no session
	}
	precopyInfo struct {
		_     structs.HostLayout
		argsz uint32
		// Linux 6.12 hands back what it was given, so it must be given 0; newer ones
		// say something here only to who asked for it (MIG_PRECOPY_INFOv2).
		flags   uint32
		initial uint64
		dirty   uint64
	}
)

func sizeof[T any](v *T) uint32 { return uint32(unsafe.Sizeof(*v)) }

// ioctlNone is _IOC_NONE in place, which most architectures have as 0.
var ioctlNone = func() uintptr {
	switch runtime.GOARCH {
	case "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le", "sparc64":
		return 1 << 29
	}
	return 0
}()

func ioctl(fd int, request uintptr, arg unsafe.Pointer) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request|ioctlNone, uintptr(arg))
	runtime.KeepAlive(arg)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// feature gets or sets one of the migration features. ENOTTY is the core's own
// word for a driver without migration operations (vfio_main.c:917).
func feature(fd int, arg unsafe.Pointer) error {
	_, err := ioctl(fd, deviceFeature, arg)
	if err == unix.ENOTTY {
		return fmt.Errorf("%w (%w)", ErrNotMigratable, err)
	}
	return err
}
