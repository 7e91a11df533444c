// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package raw talks to mediated devices by system calls alone.
//
// It exists so that what the lab's driver does can be written down, and attacked,
// without the code that is judged by it: nothing of Kindred's own VFIO layer is
// used here, no call is made that was not asked for, and every errno comes back
// as it is. Numbers and layouts are those of uapi/linux/vfio.h.
package raw

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of the VFIO ioctls on amd64.
const (
	SetIOMMU       = 0x3b66
	SetContainer   = 0x3b68
	GetDeviceFD    = 0x3b6a
	GetInfo        = 0x3b6b
	GetRegionInfo  = 0x3b6c
	GetIRQInfo     = 0x3b6d
	SetIRQs        = 0x3b6e
	DeviceReset    = 0x3b6f
	DeviceFeature  = 0x3b75
	GetPrecopyInfo = 0x3b79

	type1v2 = 3
)

// Flags and indexes of DeviceFeature.
const (
	FeatureGet = 1 << 16
	FeatureSet = 1 << 17

	FeatureMigration = 1
	FeatureState     = 2
	FeatureDataSize  = 9
)

// Migration states.
const (
	Error = iota
	Stop
	Running
	StopCopy
	Resuming
	RunningP2P
	PreCopy
	PreCopyP2P
)

// Migration flags.
const (
	FlagStopCopy = 1 << iota
	FlagP2P
	FlagPreCopy
)

// Regions of a PCI device; a region is at its index<<40.
const (
	BAR0   = 0
	BAR2   = 2
	Config = 7
)

// Offset is where a region's byte is in the device's file.
func Offset(region int, at int64) int64 { return int64(region)<<40 | at }

// Ioctl passes arg as it is.
func Ioctl(fd int, request, arg uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// IoctlBytes passes a pointer to b.
func IoctlBytes(fd int, request uintptr, b []byte) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&b[0])))
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// Device is an open mediated device.
type Device struct {
	FD               int
	container, group int
}

// Open opens the mediated device, or the PCI function by its address, by its
// group.
func Open(uuid string) (_ *Device, err error) {
	d := &Device{FD: -1, container: -1, group: -1}
	defer func() {
		if err != nil {
			d.Close()
			err = fmt.Errorf("opening %s: %w", uuid, err)
		}
	}()
	link, err := os.Readlink("/sys/bus/mdev/devices/" + uuid + "/iommu_group")
	if errors.Is(err, os.ErrNotExist) {
		link, err = os.Readlink("/sys/bus/pci/devices/" + uuid + "/iommu_group")
	}
	if err != nil {
		return nil, err
	}
	if d.container, err = unix.Open("/dev/vfio/vfio", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	if d.group, err = unix.Open("/dev/vfio/"+filepath.Base(link), unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	container := binary.NativeEndian.AppendUint32(nil, uint32(d.container))
	if _, err = IoctlBytes(d.group, SetContainer, container); err != nil {
		return nil, err
	}
	if _, err = Ioctl(d.container, SetIOMMU, type1v2); err != nil {
		return nil, err
	}
	d.FD, err = IoctlBytes(d.group, GetDeviceFD, append([]byte(uuid), 0))
	return d, err
}

// Close closes what Open opened.
func (d *Device) Close() {
	for _, fd := range []int{d.FD, d.group, d.container} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	d.FD, d.group, d.container = -1, -1, -1
}

// Flags are the device's migration flags.
func (d *Device) Flags() (uint64, error) {
	b := feature(16, FeatureMigration|FeatureGet)
	_, err := IoctlBytes(d.FD, DeviceFeature, b)
	return binary.NativeEndian.Uint64(b[8:]), err
}

// DataSize is what the driver says saving would give.
func (d *Device) DataSize() (uint64, error) {
	b := feature(16, FeatureDataSize|FeatureGet)
	_, err := IoctlBytes(d.FD, DeviceFeature, b)
	return binary.NativeEndian.Uint64(b[8:]), err
}

// State is the migration state.
func (d *Device) State() (uint32, error) {
	b := feature(16, FeatureState|FeatureGet)
	_, err := IoctlBytes(d.FD, DeviceFeature, b)
	return binary.NativeEndian.Uint32(b[8:]), err
}

// SetState returns the data fd if the change opened one, else -1.
func (d *Device) SetState(state uint32) (int, error) {
	b := feature(16, FeatureState|FeatureSet)
	binary.NativeEndian.PutUint32(b[8:], state)
	if _, err := IoctlBytes(d.FD, DeviceFeature, b); err != nil {
		return -1, err
	}
	return int(int32(binary.NativeEndian.Uint32(b[12:]))), nil
}

func feature(size int, flags uint32) []byte {
	b := make([]byte, size)
	binary.NativeEndian.PutUint32(b, uint32(size))
	binary.NativeEndian.PutUint32(b[4:], flags)
	return b
}

// Reset resets the device.
func (d *Device) Reset() error {
	_, err := Ioctl(d.FD, DeviceReset, 0)
	return err
}

// PrecopyInfo asks a saving fd what is left.
func PrecopyInfo(fd int) (initial, dirty uint64, err error) {
	b := make([]byte, 24)
	binary.NativeEndian.PutUint32(b, 24)
	_, err = IoctlBytes(fd, GetPrecopyInfo, b)
	return binary.NativeEndian.Uint64(b[8:]), binary.NativeEndian.Uint64(b[16:]), err
}

// ReadRegion reads n bytes of a region.
func (d *Device) ReadRegion(region int, at int64, n int) ([]byte, error) {
	b := make([]byte, n)
	for done := 0; done < n; {
		got, err := unix.Pread(d.FD, b[done:], Offset(region, at+int64(done)))
		if err != nil {
			return nil, err
		}
		if got == 0 {
			return nil, errors.New("a region ended early")
		}
		done += got
	}
	return b, nil
}

// WriteRegion writes bytes to a region.
func (d *Device) WriteRegion(region int, at int64, b []byte) error {
	n, err := unix.Pwrite(d.FD, b, Offset(region, at))
	if err == nil && n != len(b) {
		err = errors.New("a region took less than was written")
	}
	return err
}

// Write32 writes a register.
func (d *Device) Write32(at int64, v uint32) error {
	return d.WriteRegion(BAR0, at, binary.LittleEndian.AppendUint32(nil, v))
}

// Write64 writes a register.
func (d *Device) Write64(at int64, v uint64) error {
	return d.WriteRegion(BAR0, at, binary.LittleEndian.AppendUint64(nil, v))
}

// Read64 reads a register.
func (d *Device) Read64(at int64) (uint64, error) {
	b, err := d.ReadRegion(BAR0, at, 8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// RegionSize is a region's size.
func (d *Device) RegionSize(region int) (uint64, error) {
	b := make([]byte, 32)
	binary.NativeEndian.PutUint32(b, 32)
	binary.NativeEndian.PutUint32(b[8:], uint32(region))
	_, err := IoctlBytes(d.FD, GetRegionInfo, b)
	return binary.NativeEndian.Uint64(b[16:]), err
}
