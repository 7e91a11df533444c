// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"maps"
	"slices"
	"sync"
)

// Code identifies what was found about room and readiness; compat.Code does
// for compatibility. Codes are stable.
type Code string

const (
	RoomFree     Code = "room.free"
	RoomFull     Code = "room.full"
	RoomUnknown  Code = "room.unknown"
	RoomJoint    Code = "room.joint"
	ReadyQEMU    Code = "ready.qemu"
	ReadyLibvirt Code = "ready.libvirt"
	StayNowhere  Code = "stay.nowhere"
	StayFull     Code = "stay.full"
	StayApart    Code = "stay.apart"
	StayTaken    Code = "stay.taken"
)

var codes = sync.OnceValue(func() map[Code]struct{ text, remedy string } {
	return map[Code]struct{ text, remedy string }{
		RoomFree:     {"more can be created", ""},
		RoomFull:     {"the kernel would create no more", "remove devices that share the parent's pool, or choose another target"},
		RoomUnknown:  {"how many more can be created is not known", "inspect as root, so that it shows which functions are in use"},
		RoomJoint:    {"room for each of the devices, but not for all together", "remove devices that share the parents' pools, or move the owner's devices to a host with more room"},
		ReadyQEMU:    {"QEMU on the target", "install there a QEMU that is at least the source's, and 8.1 or newer"},
		StayNowhere:  {"no other host takes all of the owner's devices", "kindred targets DEVICE --summary says why; a canary may settle what is unknown"},
		StayFull:     {"no other host has room for all of the owner's devices together", "make room on a host that takes them"},
		StayApart:    {"the hosts with room have an owner that it is kept apart from", "move that owner, or make room on another host"},
		StayTaken:    {"the room there is was planned for other owners", "make room, or drain fewer hosts at a time"},
		ReadyLibvirt: {"libvirt on the target", "install there a libvirt that is at least the source's, and 8.6 or newer"},
	}
})

// Codes lists every code of this package, sorted.
func Codes() []Code { return slices.Sorted(maps.Keys(codes())) }

// Meaning is what the code says, in one line.
func (c Code) Meaning() string { return codes()[c].text }

// Remedy is what would change it; empty when nothing needs to.
func (c Code) Remedy() string { return codes()[c].remedy }
