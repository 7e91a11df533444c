// SPDX-License-Identifier: Apache-2.0

package change

import (
	"fmt"
	"strings"

	"kindred/host/proc"
)

// Reason is why a change was not made, in terms of what the caller can do.
type Reason string

const (
	Failed      Reason = "failed"       // the kernel's or the disk's word, in Err
	Locked      Reason = "locked"       // another process changes the device
	NoDevice    Reason = "no-device"    // there is no such device or function
	NotOurs     Reason = "not-ours"     // Kindred did not make it, or somebody took it since
	Started     Reason = "started"      // it is there already
	InUse       Reason = "in-use"       // a process has it open
	HeldUp      Reason = "held-up"      // the kernel completes it when the device is closed
	NoDriver    Reason = "no-driver"    // the driver is not there
	WrongType   Reason = "wrong-type"   // the type is not one that this function can have
	WrongParent Reason = "wrong-parent" // the function belongs to another parent
	BadValue    Reason = "bad-value"    // an attribute that is not known, or its value
	NoRoom      Reason = "no-room"      // no VF of the parent is free
	NotUndone   Reason = "not-undone"   // it failed, and so did undoing it
)

// Error is a change that was not made. Its text names the device, the reason
// and the next step.
type Error struct {
	Op      string // start, stop, repair
	ID      string
	Reason  Reason
	Detail  string         // what exactly, in words
	Holders []proc.Process // who has the device open, or changes it
	Err     error
}

func (e *Error) Unwrap() error { return e.Err }

func (e *Error) Error() string {
	text := e.Op + " " + e.ID
	if why := e.why(); why != "" {
		text += ": " + why
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *Error) why() string {
	var text string
	switch e.Reason {
	case Locked:
		text = "it is being changed"
		if len(e.Holders) > 0 {
			text += " by " + proc.Names(e.Holders)
		}
		return text + "; try again when that is over"
	case InUse:
		return fmt.Sprintf("it is in use by %s; stop that first, or force it", proc.Names(e.Holders))
	case HeldUp:
		if len(e.Holders) == 0 {
			return "the kernel has not done this yet, and nobody is seen who has it open; see the kernel's log, and run kindred device repair later"
		}
		return "the kernel completes this when " + proc.Names(e.Holders) + " closes it; run kindred device repair after that"
	case NotUndone:
		return "not all was undone; see kindred device repair --dry-run"
	case NoDevice:
		text = "there is no such device"
	case NotOurs:
		text = "Kindred did not make it, or somebody took it since; it is left alone"
	case Started:
		text = "it is started already"
	case NoDriver, WrongType, WrongParent, BadValue, NoRoom, Failed:
	}
	return strings.TrimPrefix(strings.TrimSuffix(text+": "+e.Detail, ": "), ": ")
}

func fail(op, id string, reason Reason, err error) *Error {
	return &Error{Op: op, ID: id, Reason: reason, Err: err}
}
