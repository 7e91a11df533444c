// SPDX-License-Identifier: Apache-2.0

package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"kindred/host/record"
)

// Action is what Repair did, or would do, about a device.
type Action string

const (
	Undone    Action = "undone"    // its start was cut short, and was taken back
	Completed Action = "completed" // its start or stop was cut short, and is done now
	Kept      Action = "kept"      // its stop was cut short before it began, and it is in use
	Forgotten Action = "forgotten" // it is gone, and so is its record now
	Swept     Action = "swept"     // the rest of a write of its record was removed
	Left      Action = "left"      // it could not be repaired; see Err
)

// Repaired is one device that Repair found something about.
type Repaired struct {
	ID     string
	Action Action
	Why    string // in words
	Err    error  // Left only
}

// Repair puts right what killed processes left. A start that was cut short is
// undone; it is completed where somebody has the device open already, and
// where the kernel may have been asked for the device just when the process
// died, so that a device that might be another's is not removed. A stop is
// completed, or dropped if it had not begun and somebody uses the device; one that
// was forced, or that the kernel has been asked for, stays on record until then.
// Records of devices that are gone are removed. What a running process is
// changing is left to it.
//
// With dryRun nothing is changed, and what would be done is returned.
func (h *Host) Repair(ctx context.Context, dryRun bool) ([]Repaired, error) {
	ids, err := h.Records.List()
	if err != nil {
		return nil, err
	}
	var list []Repaired
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return list, fmt.Errorf("repair: %w", err)
		}
		found, err := h.repairOne(ctx, id, dryRun)
		if err != nil {
			found = Repaired{ID: id, Action: Left, Why: "it could not be repaired", Err: err}
		}
		if found.Action != "" {
			list = append(list, found)
		}
	}
	return list, nil
}

func (h *Host) repairOne(ctx context.Context, id string, dryRun bool) (Repaired, error) {
	unlock, err := h.Records.TryLock(id)
	if errors.Is(err, record.ErrLocked) {
		return Repaired{}, nil // in good hands
	}
	if err != nil {
		return Repaired{}, err
	}
	defer unlock()
	swept := h.Records.Unfinished(id)
	if swept && !dryRun {
		if _, err := h.Records.Sweep(id); err != nil {
			return Repaired{}, err
		}
	}
	r, err := h.Records.Device(id)
	var found Repaired
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return Repaired{}, err
	default:
		if found, err = h.repair(ctx, id, r, dryRun); err != nil {
			return Repaired{}, err
		}
	}
	if swept && found.Action == "" {
		found = Repaired{ID: id, Action: Swept, Why: "a write of its record was cut short"}
	}
	return found, nil
}

// repair repairs one device, whose lock is held.
func (h *Host) repair(ctx context.Context, id string, r record.Device, dryRun bool) (Repaired, error) {
	found := Repaired{ID: id}
	boot := record.Boot(h.Machine)
	there := h.is(id, &r)
	var act func() error
	forget := func() error { return h.Records.Delete(id) }
	switch {
	case boot != "" && r.Boot != "" && boot != r.Boot:
		found.Action, found.Why, act = Forgotten, "it was made before the machine was last booted", forget
	case r.Change == nil && there, r.Change == nil && r.Kind == "":
		return Repaired{}, nil
	case r.Change == nil:
		found.Action, found.Why, act = Forgotten, "it is gone, or was made anew by somebody else", forget
	case r.Change.Op == record.Start && there && (!r.Change.Made || len(h.Holders(r.Kind, id)) > 0):
		found.Action, found.Why = Completed, "its start was cut short when the device was there"
		act = func() error { return h.complete(ctx, id, r) }
	case r.Change.Op == record.Start:
		found.Action, found.Why = Undone, "its start was cut short"
		act = func() error { return h.unwind(ctx, id, r) }
	case there && r.Change.Asked && len(h.Holders(r.Kind, id)) > 0:
		return Repaired{}, &Error{Op: "repair", ID: id, Reason: HeldUp, Holders: h.Holders(r.Kind, id)}
	case there && len(h.Holders(r.Kind, id)) > 0:
		found.Action, found.Why = Kept, "its stop was cut short, and it is in use"
		act = func() error { r.Change = nil; return h.Records.Put(id, r) }
	default:
		found.Action, found.Why = Completed, "its stop was cut short"
		act = func() error { return h.unwind(ctx, id, r) }
	}
	if dryRun {
		return found, nil
	}
	return found, act()
}

// unwind undoes all steps of a record and removes it.
func (h *Host) unwind(ctx context.Context, id string, r record.Device) error {
	if err := h.undo(ctx, id, &r, r.Steps, false); err != nil && !leftBus(err) {
		return err
	}
	return h.Records.Delete(id)
}

// complete does what a start did not come to: the steps after the one that made
// the device, all of which may be done twice.
func (h *Host) complete(ctx context.Context, id string, r record.Device) error {
	made := false
	for _, s := range r.Steps {
		if made {
			if err := h.do(ctx, id, &r, s); err != nil {
				return err
			}
		}
		made = made || makes(s)
	}
	return h.finished(id, r)
}
