// SPDX-License-Identifier: Apache-2.0

package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"kindred/host/mdev"
	"kindred/host/pci"
	"kindred/host/proc"
	"kindred/host/record"
	"kindred/host/tree"
	"kindred/inventory"
)

// The steps. Done or undone a second time, each changes nothing.
const (
	stepCreate    = "create"    // an mdev on Name, of type Value; undone: removed
	stepAttribute = "attribute" // Value to the file Name; goes with the device
	stepType      = "type"      // Value to current_vgpu_type; undone: cleared, if it still is ours
	stepSetting   = "setting"   // Name of the VF to Value; undone: to Before, if it still is Value
	stepUnbind    = "unbind"    // from the driver Name; undone: bound to it, if no other has it
	stepOverride  = "override"  // driver_override to Value; undone: to Before, if it still is Value
	stepBind      = "bind"      // to the driver Name; undone: unbound, if it still is ours
)

const (
	drivers     = "sys/bus/pci/drivers"
	currentType = "/nvidia/current_vgpu_type"
)

// makes reports whether the device exists from this step on.
func makes(s record.Step) bool {
	return s.Do == stepCreate || s.Do == stepType || s.Do == stepBind
}

func (h *Host) do(ctx context.Context, id string, r *record.Device, s record.Step) error {
	dir := path.Join(pci.Devices, id)
	switch s.Do {
	case stepCreate:
		return mdev.Create(h.Machine, s.Name, s.Value, id)
	case stepAttribute:
		return h.attribute(id, r, s)
	case stepType:
		return h.write(ctx, id, dir+currentType, s.Value)
	case stepSetting:
		if h.Settings == nil {
			return &Error{Op: record.Start, ID: id, Reason: Failed, Detail: s.Name + " cannot be set on this machine"}
		}
		if err := h.Settings.Set(ctx, r.Parent, id, s.Name, s.Value); err != nil {
			return &Error{Op: record.Start, ID: id, Reason: Failed, Detail: s.Name + "=" + s.Value, Err: err}
		}
		return nil
	case stepUnbind:
		if holders := h.Holders(r.Kind, id); len(holders) > 0 {
			return &Error{Op: record.Start, ID: id, Reason: InUse, Holders: holders}
		}
		return h.unbind(ctx, id, s.Name)
	case stepOverride:
		return h.write(ctx, id, dir+"/driver_override", s.Value)
	case stepBind:
		return h.bind(ctx, id, s.Name)
	}
	return h.unknown(id, s)
}

// undo undoes steps in reverse. Of a step that is not as Kindred left it,
// nothing is undone; and nothing at all of a function that somebody gave to a
// driver meanwhile, also to the same one: its settings are in use.
func (h *Host) undo(ctx context.Context, id string, r *record.Device, steps []record.Step, force bool) error {
	for _, s := range slices.Backward(steps) {
		if s.Do == stepBind && h.taken(id, r) {
			return nil
		}
		if err := h.undoOne(ctx, id, r, s, force); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) undoOne(ctx context.Context, id string, r *record.Device, s record.Step, force bool) error {
	dir := path.Join(pci.Devices, id)
	if makes(s) {
		if !h.is(id, r) {
			return nil // gone, or somebody else's by now
		}
		if s.Do == stepCreate {
			return h.remove(ctx, id, force)
		}
		if holders := h.Holders(r.Kind, id); len(holders) > 0 && !force {
			return &Error{Op: record.Stop, ID: id, Reason: InUse, Holders: holders}
		}
		if s.Do == stepType {
			return h.write(ctx, id, dir+currentType, s.Before)
		}
		return h.unbind(ctx, id, s.Name)
	}
	switch s.Do {
	case stepAttribute:
		return nil
	case stepSetting:
		if h.Settings == nil {
			return &Error{Op: record.Stop, ID: id, Reason: Failed, Detail: s.Name + " cannot be set on this machine"}
		}
		now, err := h.Settings.Get(ctx, r.Parent, id, s.Name)
		if err == nil && now == s.Value {
			err = h.Settings.Set(ctx, r.Parent, id, s.Name, s.Before)
		}
		if err != nil {
			return &Error{Op: record.Stop, ID: id, Reason: Failed, Detail: s.Name + "=" + s.Before, Err: err}
		}
		return nil
	case stepUnbind:
		return h.rebind(ctx, id, s.Name)
	case stepOverride:
		now, err := override(h.Machine, dir)
		if errors.Is(err, fs.ErrNotExist) || err == nil && now != s.Value {
			return nil
		}
		if err != nil {
			return err
		}
		return h.write(ctx, id, dir+"/driver_override", s.Before+"\n") // an empty line unsets it
	}
	return h.unknown(id, s)
}

func (h *Host) unknown(id string, s record.Step) error {
	return &Error{Op: "repair", ID: id, Reason: Failed, Detail: fmt.Sprintf("its record has a step %q, which this version does not know", s.Do)}
}

func (h *Host) attribute(id string, r *record.Device, s record.Step) error {
	dir := mdev.Dir(id)
	if r.Kind == inventory.VGPU {
		dir = path.Join(pci.Devices, id, "nvidia")
	}
	if link, is := h.linkIn(dir, s.Name); is {
		return &Error{Op: record.Start, ID: id, Reason: BadValue, Detail: fmt.Sprintf("%q is not one of its attributes: %s is a link to what is not the device's", s.Name, link)}
	}
	err := h.Machine.WriteAttr(path.Join(dir, s.Name), s.Value)
	if err == nil {
		return nil
	}
	e := &Error{Op: record.Start, ID: id, Reason: Failed, Detail: "attribute " + s.Name + "=" + s.Value, Err: tree.Errno(err)}
	if errors.Is(err, fs.ErrNotExist) {
		e.Reason, e.Detail, e.Err = BadValue, "its type "+r.Type+" has no attribute "+s.Name, nil
	}
	return e
}

// linkIn is the first part of a name below dir that is a link. sysfs links lead
// to other devices, the driver and the bus, and on from there everywhere:
// subsystem/devices/<another's UUID>/remove is no attribute of the device.
func (h *Host) linkIn(dir, name string) (string, bool) {
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '/' {
			continue
		}
		if _, err := h.Machine.Readlink(path.Join(dir, name[:i])); err == nil {
			return name[:i], true
		}
	}
	return "", false
}

// remove removes an mdev. That it is gone already is no error. As with write,
// what was begun is not left to itself because the caller is interrupted.
func (h *Host) remove(ctx context.Context, id string, force bool) error {
	err := mdev.Remove(context.WithoutCancel(ctx), h.Machine, id, mdev.RemoveOptions{Force: force, Wait: h.patience()})
	if e, ok := errors.AsType[*mdev.Error](err); ok && e.Reason == mdev.NoDevice {
		return nil
	}
	return err
}

// bind binds a function, which no driver has, to one. bind_store() of
// drivers/base/bus.c returns the errno of the driver's probe.
func (h *Host) bind(ctx context.Context, id, driver string) error {
	current, err := linkBase(h.Machine, path.Join(pci.Devices, id, "driver"))
	switch {
	case err != nil:
		return err
	case current == driver:
		return nil
	case current != "":
		return &Error{Op: record.Start, ID: id, Reason: NotOurs, Detail: current + " has it now"}
	}
	return h.write(ctx, id, drivers+"/"+driver+"/bind", id)
}

// rebind gives a function back to the driver it had, unless another has it, or
// the driver is not there any more.
func (h *Host) rebind(ctx context.Context, id, driver string) error {
	dir := path.Join(pci.Devices, id)
	current, err := linkBase(h.Machine, dir+"/driver")
	if err != nil || current != "" {
		return err
	}
	for _, name := range []string{dir, drivers + "/" + driver} {
		if _, err := h.Machine.Mode(name); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	return h.write(ctx, id, drivers+"/"+driver+"/bind", id)
}

// unbind takes a function from the driver, if that has it.
func (h *Host) unbind(ctx context.Context, id, driver string) error {
	current, err := linkBase(h.Machine, path.Join(pci.Devices, id, "driver"))
	if err != nil || current != driver {
		return err
	}
	err = h.write(ctx, id, drivers+"/"+driver+"/unbind", id)
	if errors.Is(err, unix.ENODEV) { // another was first (unbind_store() of drivers/base/bus.c)
		return nil
	}
	return err
}

// write writes what takes the function's lock in the kernel, or calls a driver
// that may wait for whoever has the device open. Such a write is made apart,
// and is not begun while another holds the lock up: that is when the function
// has left its driver and is still open.
//
// It is given up when somebody has the function open. Otherwise it is the driver
// that takes its time: probing a VF of a network card or making a vGPU is a
// matter of seconds. What was begun is not left to itself because the caller is
// interrupted: nobody would know what came of it.
func (h *Host) write(ctx context.Context, id, name, text string) error {
	heldUp := &Error{Op: "change", ID: id, Reason: HeldUp}
	current, err := linkBase(h.Machine, path.Join(pci.Devices, id, "driver"))
	if err == nil && current == "" {
		if heldUp.Holders = h.Holders(inventory.VF, id); len(heldUp.Holders) > 0 {
			return heldUp
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), slowest*h.patience())
	defer cancel()
	ctx, unwatch := proc.UntilHeld(ctx, h.patience(), func() bool { return len(h.Holders(inventory.VF, id)) > 0 })
	err = h.Machine.WriteApart(ctx, name, text)
	unwatch()
	switch {
	case errors.Is(err, tree.ErrHeldUp):
		heldUp.Holders = h.Holders(inventory.VF, id)
		return heldUp
	case err != nil:
		return &Error{Op: "change", ID: id, Reason: Failed, Detail: fmt.Sprintf("%q to /%s", text, name), Err: tree.Errno(err)}
	}
	return nil
}

// slowest is how many times the patience a driver may take for one write.
const slowest = 30

// Holders are the processes that have the device open, as far as they can be
// seen.
func (h *Host) Holders(kind inventory.DeviceKind, id string) []proc.Process {
	dir := mdev.Dir(id)
	if kind != inventory.Mdev {
		dir = path.Join(pci.Devices, id)
	}
	dev := inventory.Device{Group: tree.LinkBase(h.Machine, dir+"/iommu_group", func(string, error) {}), Node: inventory.None()}
	if nodes, err := h.Machine.ReadDir(dir + "/vfio-dev"); err == nil && len(nodes) > 0 {
		dev.Node = inventory.Of(nodes[0].Name)
	}
	return proc.ReadHolders(h.Machine).Processes(h.Machine, &dev)
}

// is reports whether the device of this record is there: of its type, and not
// made anew by somebody else since.
func (h *Host) is(id string, r *record.Device) bool {
	return h.there(id, r) && r.Of(h.Machine, r.Kind, id)
}

// there reports whether there is a device of the record's name, parent and
// type.
func (h *Host) there(id string, r *record.Device) bool {
	dir := path.Join(pci.Devices, id)
	switch r.Kind {
	case inventory.Mdev:
		dev, ok := mdev.Find(h.Machine, id)
		// Until the last step of its creation a device has no type.
		return ok && dev.Parent == r.Parent && (dev.Type.Name == "" || dev.Type.Full() == r.Type)
	case inventory.VGPU:
		current, err := tree.Text(h.Machine, dir+currentType)
		return err == nil && slices.ContainsFunc(r.Steps, func(s record.Step) bool { return s.Do == stepType && s.Value == current })
	}
	current, err := linkBase(h.Machine, dir+"/driver")
	return err == nil && slices.ContainsFunc(r.Steps, func(s record.Step) bool { return s.Do == stepBind && s.Name == current })
}

// taken reports whether a driver has the function that is neither Kindred's
// doing nor the one that it was taken from.
func (h *Host) taken(id string, r *record.Device) bool {
	current, err := linkBase(h.Machine, path.Join(pci.Devices, id, "driver"))
	return err == nil && current != "" && !h.is(id, r) &&
		!slices.ContainsFunc(r.Steps, func(s record.Step) bool { return s.Do == stepUnbind && s.Name == current })
}
