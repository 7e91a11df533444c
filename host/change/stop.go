// SPDX-License-Identifier: Apache-2.0

package change

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"

	"kindred/host/mdev"
	"kindred/host/pci"
	"kindred/host/record"
	"kindred/host/tree"
)

// StopOptions choose how hard Stop tries.
type StopOptions struct {
	// Force stops a device that a process has open. What the kernel can then
	// do only when it is closed, it does then, and the error says so.
	Force bool
}

// Stop unmakes a device and restores what was there before. A device that
// Kindred did not make is removed if it is an mdev, which leaves nothing to
// restore; others are left alone.
func (h *Host) Stop(ctx context.Context, id string, opts StopOptions) error {
	uuid, isUUID := mdev.ParseUUID(id)
	if isUUID {
		id = uuid
	}
	// From here on nothing is given up half way: what is begun is done.
	if ctx.Err() != nil {
		return fail(record.Stop, id, Failed, context.Cause(ctx))
	}
	unlock, err := h.lock(ctx, record.Stop, id, lockWait)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := h.Records.Device(id)
	if again := err == nil && r.Change != nil && r.Change.Asked && h.is(id, &r); !again || !opts.Force {
		if err := h.clear(ctx, record.Stop, id); err != nil {
			return err
		}
		r, err = h.Records.Device(id)
	}
	switch {
	case err == nil && r.Kind != "":
		return h.unmake(ctx, id, r, opts.Force)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fail(record.Stop, id, Failed, err)
	case isUUID:
		err := mdev.Remove(context.WithoutCancel(ctx), h.Machine, id, mdev.RemoveOptions{Force: opts.Force, Wait: h.patience()})
		if err == nil || leftBus(err) {
			err = errors.Join(err, h.Records.Delete(id)) // one that says nothing of how it was made
		}
		return err
	}
	if _, err := h.Machine.Mode(path.Join(pci.Devices, id)); errors.Is(err, fs.ErrNotExist) {
		return fail(record.Stop, id, NoDevice, nil)
	}
	return fail(record.Stop, id, NotOurs, nil)
}

// unmake undoes what the record says.
func (h *Host) unmake(ctx context.Context, id string, r record.Device, force bool) error {
	if holders := h.Holders(r.Kind, id); len(holders) > 0 && !force {
		return &Error{Op: record.Stop, ID: id, Reason: InUse, Holders: holders}
	}
	asItWas := r
	r.Change = &record.Change{Op: record.Stop, PID: os.Getpid(), Began: now(), Made: true, Asked: force}
	if err := h.Records.Put(id, r); err != nil {
		return fail(record.Stop, id, Failed, err)
	}
	err := h.undo(ctx, id, &r, r.Steps, force)
	switch {
	case err == nil, leftBus(err):
		return errors.Join(err, h.Records.Delete(id))
	case heldUp(err):
		r.Change.Asked = true
		return errors.Join(err, h.Records.Put(id, r))
	case h.is(id, &asItWas): // nothing was begun
		return errors.Join(err, h.Records.Put(id, asItWas))
	}
	return err
}

// heldUp reports whether a write was begun that the kernel has yet to do.
func heldUp(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Reason == HeldUp || errors.Is(err, tree.ErrHeldUp)
}

// leftBus reports whether an mdev is as good as gone: no step of Kindred's is
// missing.
func leftBus(err error) bool {
	e, ok := errors.AsType[*mdev.Error](err)
	return ok && e.Reason == mdev.BeingRemoved && !heldUp(err)
}
