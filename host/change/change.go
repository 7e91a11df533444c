// SPDX-License-Identifier: Apache-2.0

// Package change makes and unmakes one machine's devices, in several steps that
// hold together: mediated devices, VFs given to a VFIO driver, and VFs given
// one of NVIDIA's vGPU types.
//
// It promises:
//
//   - What is about to be done is on disk before the first step, with what was
//     there before. A step that fails undoes the ones before it, in reverse. What
//     a killed process left is put right by [Host.Repair], or by the next change
//     of the same device.
//   - Only what Kindred did is undone, and only where it still is as Kindred left
//     it. A VF that somebody else took since is not touched.
//   - A device that a process has open is left alone unless forced, and the
//     error names the process. No caller hangs, whatever the kernel does.
//   - Changes of different devices do not wait for each other; of two changes of
//     one device the second waits, and says for whom when it gives up.
//   - The number of VFs is never changed, and no module is loaded.
//
// Errors are [*Error] or, where the mdev bus is asked, [*mdev.Error].
//
// How each kind is made, in steps, is in plan.go; what a step does and how it is
// undone in step.go.
package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"kindred/host/mdev"
	"kindred/host/nvidia"
	"kindred/host/pci"
	"kindred/host/proc"
	"kindred/host/record"
	"kindred/host/tree"
	"kindred/inventory"
)

// Host is a machine whose devices are changed.
type Host struct {
	Machine tree.Machine
	Records *record.Store
	// Settings is what a VF has outside of sysfs. Nil: a machine without, whose
	// VFs can be given none.
	Settings Settings
	// Patience is how long a write is waited for that the kernel holds up
	// because somebody has the device open; 0 stands for two seconds. A driver
	// that takes its time is waited for thirty times as long.
	Patience time.Duration
}

// Open opens the machine whose root directory is root: "/" for the live one.
func Open(root string) (*Host, error) {
	root = filepath.Clean(root)
	m, err := tree.OpenMachine(root)
	if err != nil {
		return nil, err
	}
	records, err := record.OpenStore(root)
	if err != nil {
		m.Close()
		return nil, err
	}
	h := &Host{Machine: m, Records: records}
	if root == "/" {
		h.Settings = kernelSettings(m)
	}
	return h, nil
}

// Close releases the machine and its records.
func (h *Host) Close() error { return errors.Join(h.Machine.Close(), h.Records.Close()) }

// Request is a device to be started.
type Request struct {
	// Kind is Mdev, VF or VGPU; empty is what the ID and the type say.
	Kind inventory.DeviceKind
	// ID is the mdev's UUID, empty for a new one, or the VF's address, empty for
	// one of the parent's that is free.
	ID string
	// Parent is the mdev's parent, or the physical function. A VF knows its own:
	// it need not be given, and is checked when it is.
	Parent string
	// Type is the full name: mtty-2, mlx5_vfio_pci-15b3:101e, nvidia-1148. A VF is
	// bound to the driver that its type is named after.
	Type string
	// Attributes are set in this order. Of an mdev they are files of its
	// directory, of a vGPU files of the VF's nvidia directory, written when the
	// device was made. Of a VF they are mac, vlan (ID or ID:QOS) and migratable
	// (enable or disable), and are set while no driver has it.
	Attributes []Attribute
	// Contract is what was promised already to the guest that gets the device;
	// nil for a new one, whose contract is what the kernel shows of the device.
	Contract *inventory.Contract
	// Canary is what a throw-away device is for; empty for one that stays.
	Canary string
}

// Attribute is one value to be set.
type Attribute struct{ Name, Value string }

// Device is a device that was started.
type Device struct {
	ID     string
	Kind   inventory.DeviceKind
	Parent string
	Type   string
}

// lockWait is how long a change of the same device is waited for.
const lockWait = 30 * time.Second

func (h *Host) patience() time.Duration {
	if h.Patience > 0 {
		return h.Patience
	}
	return 2 * time.Second
}

// Start makes the device and puts on record that it is Kindred's, and what it
// promises its guest. When it returns an error, the machine is as it was,
// unless the error says otherwise.
func (h *Host) Start(ctx context.Context, req Request) (Device, error) {
	if req.ID == "" && h.hasVFs(&req) {
		return h.startFree(ctx, req)
	}
	return h.start(ctx, req, lockWait)
}

// start waits for another change of the device for as long as wait.
func (h *Host) start(ctx context.Context, req Request, wait time.Duration) (Device, error) {
	dev := Device{ID: req.ID, Kind: req.Kind, Parent: req.Parent, Type: req.Type}
	if dev.Kind == "" {
		dev.Kind = kindOf(dev.ID, dev.Type)
	}
	if dev.Kind == inventory.Mdev {
		if dev.ID == "" {
			dev.ID = mdev.NewUUID()
		}
		id, ok := mdev.ParseUUID(dev.ID)
		if !ok {
			return dev, &mdev.Error{Op: "create", UUID: dev.ID, Parent: req.Parent, Type: req.Type, Reason: mdev.BadUUID}
		}
		dev.ID = id
	}
	unlock, err := h.lock(ctx, record.Start, dev.ID, wait)
	if err != nil {
		return dev, err
	}
	defer unlock()
	if err := h.clear(ctx, record.Start, dev.ID); err != nil {
		return dev, err
	}
	r, err := h.plan(ctx, &dev, req.Attributes)
	if err != nil {
		return dev, err
	}
	r.Boot, r.Contract, r.Canary = record.Boot(h.Machine), req.Contract, req.Canary
	if err := r.Check(); err != nil {
		return dev, fail(record.Start, dev.ID, BadValue, fmt.Errorf("the contract: %w", err))
	}
	r.Change = &record.Change{Op: record.Start, PID: os.Getpid(), Began: now()}
	if err := h.Records.Put(dev.ID, r); err != nil {
		return dev, fail(record.Start, dev.ID, Failed, err)
	}
	return dev, h.carry(ctx, dev.ID, r)
}

// hasVFs reports whether the request is for any of a card's VFs: a card can
// have VFs and be a parent of mdevs.
func (h *Host) hasVFs(req *Request) bool {
	if req.Kind == inventory.Mdev || !tree.Single(req.Parent) || !tree.Single(req.Type) {
		return false
	}
	_, err := h.Machine.Readlink(path.Join(pci.Devices, req.Parent, "virtfn0"))
	return err == nil && !mdev.Offers(h.Machine, req.Parent, req.Type)
}

// IsMdev reports whether the type is one of mdevs on that parent.
func (h *Host) IsMdev(parent, typ string) bool {
	return !h.hasVFs(&Request{Parent: parent, Type: typ})
}

// startFree starts the first VF of the parent that is free: one without a vGPU
// type, or one without a driver. From a driver none is taken that was not named:
// the host may need it. One that is being changed is waited for only when no
// other is free: it may be free then.
func (h *Host) startFree(ctx context.Context, req Request) (Device, error) {
	var vfs []string
	for n := 0; ; n++ {
		to, err := h.Machine.Readlink(path.Join(pci.Devices, req.Parent, "virtfn"+strconv.Itoa(n)))
		if err != nil {
			break
		}
		vfs = append(vfs, path.Base(to))
	}
	dev, locked, err := h.startOf(ctx, req, vfs, 0)
	if len(locked) > 0 {
		dev, _, err = h.startOf(ctx, req, locked, lockWait)
	}
	return dev, err
}

// startOf starts the first of the VFs that is free, and returns those that it
// found locked if none is. All of them together are waited for as long as wait.
func (h *Host) startOf(ctx context.Context, req Request, vfs []string, wait time.Duration) (dev Device, locked []string, why error) {
	until := time.Now().Add(wait)
	for _, vf := range vfs {
		one := req
		one.ID = vf
		if kindOf(one.ID, req.Type) == inventory.VF {
			if driver, err := linkBase(h.Machine, path.Join(pci.Devices, one.ID, "driver")); err != nil || driver != "" {
				continue
			}
		}
		dev, err := h.start(ctx, one, time.Until(until))
		e, ok := errors.AsType[*Error](err)
		if !ok || !slices.Contains([]Reason{Started, NotOurs, InUse, Locked, WrongType}, e.Reason) || ctx.Err() != nil {
			return dev, nil, err
		}
		if e.Reason == Locked {
			locked = append(locked, vf)
		}
		why = err
	}
	return Device{Parent: req.Parent, Type: req.Type}, locked, &Error{Op: record.Start, ID: req.Type, Reason: NoRoom, Detail: "no virtual function of " + req.Parent + " is free; name one to take it from its driver, or stop one", Err: why}
}

// kindOf is what a device is by its name and type. NVIDIA's types are of VFs
// that take one.
func kindOf(id, typ string) inventory.DeviceKind {
	if _, isUUID := mdev.ParseUUID(id); isUUID || id == "" {
		return inventory.Mdev
	}
	if strings.HasPrefix(typ, nvidia.Namespace+"-") && !strings.Contains(typ, ":") {
		return inventory.VGPU
	}
	return inventory.VF
}

// carry does the steps of a record whose intent is written.
func (h *Host) carry(ctx context.Context, id string, r record.Device) error {
	for i, s := range r.Steps {
		err := ctx.Err()
		if err == nil {
			err = h.do(ctx, id, &r, s)
		}
		if err == nil && makes(s) {
			r.Change.Made, r.Instance = true, record.Instance(h.Machine, r.Kind, id)
			err = h.Records.Put(id, r)
		}
		if heldUp(err) && makes(s) {
			// It may be made yet: the intent stays on record, for repair.
			return fail(record.Start, id, NotUndone, err)
		}
		if err != nil {
			return h.takeBack(ctx, id, r, i, err)
		}
	}
	if err := h.finished(id, r); err != nil {
		return h.takeBack(ctx, id, r, len(r.Steps)-1, err)
	}
	return nil
}

// finished puts a device that was made on record as Kindred's own.
func (h *Host) finished(id string, r record.Device) error {
	r.Ours, r.Change = true, nil
	r.Instance = record.Instance(h.Machine, r.Kind, id)
	if r.Contract == nil {
		r.Contract = h.contract(id, &r)
	}
	return h.Records.Put(id, r)
}

// takeBack undoes the steps before last and, where it made the device after
// all, last. The reason of the failure stays the error.
func (h *Host) takeBack(ctx context.Context, id string, r record.Device, last int, reason error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*h.patience())
	defer cancel()
	undo := r.Steps[:last+1]
	if last >= 0 && makes(r.Steps[last]) && !r.Change.Made {
		undo = r.Steps[:last] // what has this name is another's: the kernel refused
	}
	err := h.undo(ctx, id, &r, undo, false)
	if err == nil {
		err = h.Records.Delete(id)
	}
	if err == nil {
		return reason
	}
	return &Error{Op: record.Start, ID: id, Reason: NotUndone, Err: fmt.Errorf("%w; then undoing it failed: %w", reason, err)}
}

// lock takes the device's lock, and waits that long for it. The error says who
// has it, and whether it was the caller who did not wait.
func (h *Host) lock(ctx context.Context, op, id string, wait time.Duration) (func(), error) {
	if !tree.Single(id) {
		return nil, fail(op, id, NoDevice, nil)
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	unlock, err := h.Records.Lock(waiting, id)
	switch {
	case errors.Is(err, record.ErrLocked):
		e := fail(op, id, Locked, context.Cause(ctx))
		if r, err := h.Records.Device(id); err == nil && r.Change != nil {
			e.Holders = []proc.Process{proc.Named(h.Machine, r.Change.PID)}
		}
		return nil, e
	case err != nil:
		return nil, fail(op, id, Failed, err)
	}
	return unlock, nil
}

// clear puts right what a killed process left of the device, and forgets a
// device that is no more. The lock is held.
func (h *Host) clear(ctx context.Context, op, id string) error {
	r, err := h.Records.Device(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fail(op, id, Failed, err)
	}
	if r.Change == nil && h.is(id, &r) {
		return nil
	}
	_, err = h.repair(ctx, id, r, false)
	return err
}

// Attributes are those with which Kindred made the device that runs, in their
// order; none of a device that it did not make.
func (h *Host) Attributes(id string) ([]Attribute, error) {
	r, err := h.Records.Device(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !r.Ours || !h.is(id, &r) {
		return nil, nil
	}
	var list []Attribute
	for _, s := range r.Steps {
		if s.Do == stepAttribute || s.Do == stepSetting {
			list = append(list, Attribute{s.Name, s.Value})
		}
	}
	return list, nil
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
