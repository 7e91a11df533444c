// SPDX-License-Identifier: Apache-2.0

package vfio

import (
	"errors"
	"fmt"
)

// State is a device's migration state (enum vfio_device_mig_state in
// include/uapi/linux/vfio.h).
type State uint32

const (
	StateError      State = iota // only a reset leads out
	StateStop                    // neither the device runs nor is there a session
	StateRunning                 // the state after a reset
	StateStopCopy                // stopped; the data session gives its state
	StateResuming                // the data session takes a state
	StateRunningP2P              // running, but starts no transfer to another device
	StatePreCopy                 // running; the data session gives what it can already
	StatePreCopyP2P              // both
)

var stateNames = [...]string{"ERROR", "STOP", "RUNNING", "STOP_COPY", "RESUMING", "RUNNING_P2P", "PRE_COPY", "PRE_COPY_P2P"}

// String is the kernel's name for the state.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint32(s))
}

// Flags say what of migration a device supports (struct
// vfio_device_feature_migration).
type Flags uint64

const (
	FlagStopCopy Flags = 1 << iota // without it no other means anything
	FlagP2P
	FlagPreCopy
)

// Info is what a device says of itself (VFIO_DEVICE_GET_INFO and, for each
// region and interrupt index, GET_REGION_INFO and GET_IRQ_INFO).
type Info struct {
	API      string   // vfio-pci, vfio-ap, vfio-ccw, vfio-platform
	CanReset bool     // VFIO_DEVICE_FLAGS_RESET; some drivers reset without saying so
	Regions  []Region // by index; a region the device does not have is of size 0
	IRQs     []uint32 // by index, how many interrupts
}

// Region is one region of a device.
type Region struct {
	Size     uint64 // in bytes
	Readable bool
	Writable bool
}

// Regions of a device whose API is vfio-pci (VFIO_PCI_*_REGION_INDEX).
const (
	RegionBAR0   = 0
	RegionROM    = 6
	RegionConfig = 7
)

// Device is an open VFIO device, as a transfer of its state uses it: each
// method is one thing that the kernel does, and an errno comes back wrapped as
// it is. [Open] gives a kernel's; package sim has devices that behave.
//
// The methods are for one goroutine at a time, but for Close, which ends a
// session that another goroutine waits for.
type Device interface {
	// Info describes regions and interrupts.
	Info() (*Info, error)
	// Migration returns the device's migration flags, or ErrNotMigratable.
	Migration() (Flags, error)
	// State reads the migration state.
	State() (State, error)
	// SetState asks for a state; the kernel walks there over as many steps as
	// it takes. The session is nil unless the last step opened one: going on
	// from PRE_COPY to STOP_COPY keeps the session there is. After an error the
	// device is in any state on the way, which State tells.
	SetState(State) (Session, error)
	// DataSize estimates in bytes what saving in STOP_COPY would give.
	DataSize() (uint64, error)
	// ReadRegion and WriteRegion access a region, all of p or an error.
	ReadRegion(region int, at int64, p []byte) error
	WriteRegion(region int, at int64, p []byte) error
	// Reset brings the device to RUNNING and ends any session. With most
	// drivers its contents are those of a new device then.
	Reset() error
	// Close closes the device and its sessions. A device that is closed while
	// it is not RUNNING keeps that state for who opens it next (mtty), so
	// reset it first.
	Close() error
}

// Session is an open transfer of state: the kernel's data_fd.
type Session interface {
	// Read gives saved state. Zero bytes without an error are the end in
	// STOP_COPY. In PRE_COPY they mean, like ENOMSG, that there is nothing for
	// now: the documentation wants ENOMSG, mtty, hisi_acc and qat return zero.
	Read(p []byte) (int, error)
	// Write takes state to resume from. After any error the state is lost,
	// although several drivers would take more: reset the device.
	Write(p []byte) (int, error)
	// Precopy tells, in PRE_COPY only, how many bytes are left.
	Precopy() (PrecopyInfo, error)
	// Close ends the session.
	Close() error
}

// PrecopyInfo is what is left to read in PRE_COPY (struct vfio_precopy_info).
type PrecopyInfo struct {
	Initial uint64 // bytes that should be read before leaving PRE_COPY
	Dirty   uint64 // bytes that changed since
}

// ErrNotMigratable is returned for a device whose driver has no migration
// operations (ENOTTY), or not the one that all others need (STOP_COPY).
var ErrNotMigratable = errors.New("the driver cannot migrate devices of this type")
