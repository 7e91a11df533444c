// SPDX-License-Identifier: Apache-2.0

package mdev

import (
	"fmt"
	"strings"

	"kindred/host/proc"
	"kindred/inventory"
)

// Reason is why a device could not be created or removed, in terms of what the
// caller can do about it.
type Reason string

const (
	BadUUID       Reason = "bad-uuid"       // not 8-4-4-4-12 hexadecimal digits
	NoParent      Reason = "no-parent"      // no such parent, or it is going
	NoType        Reason = "no-type"        // the parent does not offer the type
	NoRoom        Reason = "no-room"        // the pool is used up
	Taken         Reason = "taken"          // a device has the UUID
	BeingRemoved  Reason = "being-removed"  // a device that is still being removed has the UUID
	NoDevice      Reason = "no-device"      // no device has the UUID
	InUse         Reason = "in-use"         // a process has the device open
	NotPermitted  Reason = "not-permitted"  // the caller may not
	KernelRefused Reason = "kernel-refused" // the driver's errno, in Err
)

// Error is the error of this package's changes. Its text names the thing, the
// place, the reason and the next step; the fields carry the same for programs.
type Error struct {
	Op     string // create, remove
	UUID   string
	Parent string // of the device, or asked for
	Type   string // full name, of the device or asked for
	Reason Reason
	// Users are the devices that use the parent's pool (NoRoom), or the one that
	// has the UUID (Taken).
	Users []inventory.Device
	// Holders are the processes that hold the device open, where they were seen.
	Holders []proc.Process
	// Offered are the names that exist in place of the one that does not.
	Offered []string
	Err     error // the kernel's, where it was asked
}

func (e *Error) Unwrap() error { return e.Err }

func (e *Error) Error() string {
	var what string
	switch e.Op {
	case "create":
		what = fmt.Sprintf("create %s as %s on %s: ", e.UUID, e.Type, e.Parent)
	default:
		what = fmt.Sprintf("%s %s: ", e.Op, e.UUID)
	}
	return what + e.why()
}

func (e *Error) why() string {
	switch e.Reason {
	case BadUUID:
		return "not a UUID: it has the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
	case NoParent:
		return "there is no such parent" + e.offered("parents") + e.kernel()
	case NoType:
		return "the parent does not offer this type" + e.offered("it offers") + e.kernel()
	case NoRoom:
		return "no room" + e.users() + "; stop one of them, or choose another parent" + e.kernel()
	case Taken:
		if len(e.Users) == 0 {
			return "the UUID is taken, by a device that is just being made or removed; try again" + e.kernel()
		}
		u := &e.Users[0]
		return fmt.Sprintf("the UUID is taken by a device of type %s on %s; stop that, or choose another UUID", u.Type.Full(), u.Parent)
	case BeingRemoved:
		text := "a device of this UUID is still being removed"
		if e.Parent != "" && e.Op != "create" {
			text = "the device is still being removed"
		}
		if len(e.Holders) > 0 {
			return text + ": it goes when " + proc.Names(e.Holders) + " closes it" + e.kernel()
		}
		return text + ": it goes when whoever has it open closes it" + e.kernel()
	case NoDevice:
		return "there is no such device" + e.kernel()
	case InUse:
		return fmt.Sprintf("it is in use by %s; stop that first, or force it: the device then goes when it is closed", proc.Names(e.Holders))
	case NotPermitted:
		return "not permitted; run this as root" + e.kernel()
	}
	return fmt.Sprintf("the kernel refused: %v", e.Err)
}

func (e *Error) offered(what string) string {
	if len(e.Offered) == 0 {
		return ""
	}
	return "; " + what + ": " + strings.Join(some(e.Offered), ", ")
}

// users says what uses the pool: types of one parent mostly share it.
func (e *Error) users() string {
	if len(e.Users) == 0 {
		return ": no device of this parent is listed, but the driver has none left"
	}
	names := make([]string, len(e.Users))
	for i := range e.Users {
		names[i] = fmt.Sprintf("%s (%s)", e.Users[i].ID, e.Users[i].Type.Full())
	}
	return fmt.Sprintf(": %d in use on this parent: %s", len(names), strings.Join(some(names), ", "))
}

func (e *Error) kernel() string {
	if e.Err == nil {
		return ""
	}
	return fmt.Sprintf(" (%v)", e.Err)
}

// some leaves out what makes a line too long to be read.
func some(names []string) []string {
	const most = 4
	if len(names) <= most+1 {
		return names
	}
	return append(names[:most:most], fmt.Sprintf("and %d more", len(names)-most))
}
