// SPDX-License-Identifier: Apache-2.0

package mdev

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"kindred/host/proc"
	"kindred/host/tree"
	"kindred/inventory"
)

// NewUUID is a random UUID (version 4 of RFC 9562).
func NewUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// ParseUUID is the UUID as the kernel names the device: in lower case.
// uuid_parse() of lib/uuid.c takes both cases, in the form 8-4-4-4-12 alone.
func ParseUUID(text string) (string, bool) {
	if len(text) != 36 {
		return "", false
	}
	for i, c := range []byte(text) {
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (c == '-') || !dash && !hex {
			return "", false
		}
	}
	return strings.ToLower(text), true
}

// Create creates a device of the type (its full name, as the parent's
// directory of it is called) on the parent. When it returns nil the device is
// there and usable: the driver's probe is over (mdev_device_create() of
// mdev_core.c). Every error is an [*Error].
func Create(m tree.Machine, parent, typ, uuid string) error {
	fail := func(reason Reason, err error) *Error {
		return &Error{Op: "create", UUID: uuid, Parent: parent, Type: typ, Reason: reason, Err: tree.Errno(err)}
	}
	id, ok := ParseUUID(uuid)
	if !ok {
		return fail(BadUUID, nil)
	}
	if !tree.Single(parent) {
		return fail(NoParent, nil)
	}
	if !tree.Single(typ) {
		return fail(NoType, nil)
	}
	types := path.Join(classDir, parent, typesDir)
	err := m.WriteAttr(path.Join(types, typ, "create"), id)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV):
		return notOffered(m, parent, typ, fail(NoParent, err))
	case errors.Is(err, fs.ErrPermission):
		return fail(NotPermitted, err)
	case errors.Is(err, unix.EEXIST):
		return taken(m, id, fail(Taken, err))
	case full(m, path.Join(types, typ), err):
		e := fail(NoRoom, err)
		e.Users = onParent(m, parent)
		return e
	}
	return fail(KernelRefused, err)
}

// full tells a pool that is used up. ENOSPC is what drivers answer that count
// themselves, EUSERS the core for the others; some answer otherwise, and then
// the count they publish tells.
func full(d tree.Dir, typ string, err error) bool {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EUSERS) {
		return true
	}
	text, err := tree.Text(d, path.Join(typ, "available_instances"))
	return err == nil && text == "0"
}

// notOffered finds out what is not there: the parent or the type.
func notOffered(d tree.Dir, parent, typ string, e *Error) *Error {
	types := path.Join(classDir, parent, typesDir)
	if entries, err := d.ReadDir(types); err == nil {
		e.Offered = names(entries)
		if _, err := d.Mode(path.Join(types, typ)); err != nil {
			e.Reason, e.Err = NoType, nil
		} else {
			e.Reason, e.Offered = KernelRefused, nil // the parent is being unregistered
		}
		return e
	}
	if entries, err := d.ReadDir(classDir); err == nil {
		e.Offered = names(entries)
		e.Err = nil
	}
	return e
}

// taken finds out which device has the UUID: mdev_core.c looks at the devices
// of all parents, and at ones that are leaving until they are gone.
func taken(d tree.Dir, uuid string, e *Error) *Error {
	for _, dev := range brief(d) {
		if dev.ID == uuid {
			e.Users = []inventory.Device{dev}
			return e
		}
	}
	if going, found := leaving(d, uuid); found {
		e.Reason = BeingRemoved
		e.Holders = going.holders(d)
	}
	return e
}

// onParent are the parent's devices.
func onParent(d tree.Dir, parent string) []inventory.Device {
	var list []inventory.Device
	for _, dev := range brief(d) {
		if dev.Parent == parent {
			list = append(list, dev)
		}
	}
	return list
}

// brief lists all devices for an error's text: what cannot be read is left out
// of that.
func brief(d tree.Dir) []inventory.Device {
	list, _ := Devices(d, Brief, func(string, error) {})
	return list
}

// departing is a device that its driver was told to give up: it has left the
// bus, and its directory is there until the last descriptor on it is closed.
type departing struct{ parent, dir string }

// leaving looks for such a device of the UUID below every parent.
func leaving(d tree.Dir, uuid string) (departing, bool) {
	if _, err := d.Readlink(path.Join(devicesDir, uuid)); err == nil {
		return departing{}, false
	}
	parents, err := d.ReadDir(classDir)
	if err != nil {
		return departing{}, false
	}
	for _, p := range parents {
		dir := path.Join(classDir, p.Name, uuid)
		if mode, err := d.Mode(dir); err == nil && mode.IsDir() {
			return departing{p.Name, dir}, true
		}
	}
	return departing{}, false
}

// holders are the processes that hold it open by its group.
func (g departing) holders(d tree.Dir) []proc.Process {
	dev := inventory.Device{Group: tree.LinkBase(d, path.Join(g.dir, "iommu_group"), func(string, error) {})}
	return proc.ReadHolders(d).Processes(d, &dev)
}

func names(entries []tree.Entry) []string {
	list := make([]string, len(entries))
	for i, e := range entries {
		list[i] = e.Name
	}
	return list
}
