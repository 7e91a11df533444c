// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"context"
	"errors"
)

// Machine is a Dir whose attributes can be written: the one door through which
// Kindred changes what a kernel holds. Reading needs only the Dir, and a Dir
// that was opened with [Open] or [Dir.Sub] has no such door.
//
// A write is open(2) with O_WRONLY, one write(2) of the whole text, close(2):
// sysfs calls the driver's store() once for each write(2). Links are resolved
// within the root, as for reads. Errors are [*fs.PathError] with the kernel's
// errno, of open or of write; the kernel's word is passed on as it is, and
// nothing but an interrupted call is repeated.
type Machine interface {
	Dir
	// WriteAttr writes a sysfs attribute. It returns when the driver did.
	WriteAttr(name, text string) error
	// WriteApart is WriteAttr for a write that the kernel may hold up without
	// end, where no signal helps, such as to an mdev's remove while the device
	// is open. It returns at the latest when ctx ends, then with [ErrHeldUp]
	// and the cause: the write was begun and goes on without the caller.
	//
	// On the live machine a process of its own does it, so that neither a
	// thread nor the exit of the caller's process hangs. It outlives the
	// caller, holds none of its files but the attribute, and ends with the
	// write. A simulated machine needs no process.
	WriteApart(ctx context.Context, name, text string) error
}

// ErrHeldUp is returned for a write that was begun and is not answered.
var ErrHeldUp = errors.New("the kernel holds the write up: it is left to itself and will be done when the kernel lets it")
