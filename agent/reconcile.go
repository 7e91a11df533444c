// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"kindred/api"
	"kindred/definition"
	"kindred/host/change"
	"kindred/host/mdev"
	"kindred/host/policy"
	"kindred/inventory"
)

// reconcile makes the host be as assigned, and says how it is: whenever the list
// or the host changes, from time to time, and again while something is not done.
func (a *Agent) reconcile(ctx context.Context, m Managed) {
	retry := backoff{first: a.Retry, most: a.RetryMost}
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wanted:
			retry.reset()
		case <-a.stirred:
			if !sleep(ctx, a.Coalesce) {
				return
			}
		case <-again.C:
		}
		settled, err := a.carryOut(ctx, m)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			a.Log.Warn("carry out assignments", "err", err)
		}
		wait := a.Poll
		switch {
		case err != nil:
			wait = retry.wait()
		case !settled: // that a device was closed nobody tells: it is looked for
			wait = min(wait, retry.wait())
		}
		again.Reset(wait)
	}
}

// carryOut carries out the newest list and says what came of it. It reports
// whether all is as assigned.
func (a *Agent) carryOut(ctx context.Context, m Managed) (settled bool, err error) {
	a.mu.Lock()
	list := a.list
	a.mu.Unlock()
	if list == nil || len(list.Assignments) == 0 {
		return true, nil
	}
	inv, err := m.Inventory(ctx)
	if err != nil {
		return false, fmt.Errorf("read this host: %w", err)
	}
	allowed, err := m.Policy()
	if err != nil {
		return false, err
	}
	maps.DeleteFunc(a.failures, func(key string, _ *failure) bool {
		return !slices.ContainsFunc(list.Assignments, func(as api.Assignment) bool { return keyOf(&as) == key })
	})
	one := &turn{Agent: a, machine: m, list: list, inv: inv, policy: allowed}
	report := new(api.StatusReport)
	settled = true
	for i := range list.Assignments {
		s, err := one.carryOut(ctx, &list.Assignments[i])
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil { // nothing can be said of it
			a.Log.Warn("assignment", "migration", list.Assignments[i].Migration, "err", err)
			settled = false
			continue
		}
		settled = settled && s.State != api.Failed && s.State != api.Busy && s.State != api.Stuck
		report.Statuses = append(report.Statuses, *s)
	}
	if one.changed {
		kick(a.changed)
	}
	return settled, a.say(ctx, report)
}

// say tells the server what is new of the assignments.
func (a *Agent) say(ctx context.Context, report *api.StatusReport) error {
	if len(report.Statuses) == 0 {
		return nil
	}
	data, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("say what came of assignments: %w", err)
	}
	a.mu.Lock()
	known := a.said == string(data)
	a.mu.Unlock()
	if known {
		return nil
	}
	if err := a.ask(ctx, func(ctx context.Context) error { return a.Fleet.Status(ctx, a.Name, report) }); err != nil {
		return fmt.Errorf("say what came of assignments: %w", err)
	}
	a.mu.Lock()
	a.said = string(data)
	a.mu.Unlock()
	return nil
}

// failure is a change that the kernel refused. It is asked again after a while,
// whatever happens meanwhile: a refusal may itself stir the host.
type failure struct {
	status api.Status
	retry  backoff
	next   time.Time
}

func keyOf(as *api.Assignment) string {
	return fmt.Sprintf("%s %s %d %s", as.Claim, as.Spec.Source, as.Step, as.Do)
}

// failed is what came of the assignment a moment ago, nil when it can be tried.
func (t *turn) failed(as *api.Assignment) *api.Status {
	if f := t.failures[keyOf(as)]; f != nil && time.Now().Before(f.next) {
		return new(f.status)
	}
	return nil
}

// fail remembers a failure.
func (t *turn) fail(as *api.Assignment, s *api.Status) *api.Status {
	f := t.failures[keyOf(as)]
	if f == nil {
		f = &failure{retry: backoff{first: t.Retry, most: t.RetryMost}}
		t.failures[keyOf(as)] = f
	}
	f.status, f.next = *s, time.Now().Add(f.retry.wait())
	return s
}

// turn is one pass over the assignments.
type turn struct {
	*Agent
	machine Managed
	list    *api.Assignments
	inv     *inventory.Inventory
	policy  *policy.Policy
	changed bool
}

// status begins what is said of an assignment.
func status(as *api.Assignment, id string, state api.DeviceState, detail string) *api.Status {
	return &api.Status{Migration: as.Migration, Step: as.Step, Source: as.Spec.Source, Device: id, State: state, Detail: detail}
}

// carryOut carries out one assignment. The error is that nothing can be said
// of it for now.
func (t *turn) carryOut(ctx context.Context, as *api.Assignment) (*api.Status, error) {
	id := as.Device
	if id == "" {
		id = t.Journal.picked(as.Claim, as.Spec.Source)
	}
	if a := t.Journal.later(id, as); a != nil {
		s := status(as, id, api.Later, fmt.Sprintf("%s, for step %d of claim %s, was carried out later than %s for step %d of claim %s", a.Do, a.Step, a.Claim, as.Do, as.Step, as.Claim))
		s.Ahead = a
		return s, nil
	}
	switch as.Do {
	case api.Make:
		return t.make(ctx, as, id)
	case api.Keep:
		return t.keep(ctx, as, id)
	case api.Hold:
		return t.hold(as, id)
	case api.Release:
		return t.release(ctx, as, id)
	}
	return nil, fmt.Errorf("%q is not an action that this agent knows: it is older than the server", as.Do)
}

// mine reports whether the device was made for the assignment's claim, or was
// about to be.
func (t *turn) mine(id string, as *api.Assignment) bool {
	e, ok := t.Journal.device(id)
	return ok && e.Claim == as.Claim
}

func (t *turn) notAllowed(parent string, typ inventory.TypeName) string {
	return fmt.Sprintf("the host's operator does not let devices of %s be managed on %s: /%s allows it, with manage: [{parent: %q, type: %q}]",
		typ.Full(), parent, policy.File, parent, typ.Full())
}

// make has the device made.
func (t *turn) make(ctx context.Context, as *api.Assignment, id string) (*api.Status, error) {
	spec := &as.Spec
	if id == "" && spec.Kind != inventory.Mdev {
		if id = t.idle(spec); id == "" {
			return status(as, id, api.Failed, fmt.Sprintf("no function of %s that is %s is idle", spec.Parent, spec.Type.Full())), nil
		}
	}
	if dev := t.inv.Device(id); id != "" && dev != nil {
		return t.there(as, dev)
	}
	if !t.policy.Managed(spec.Parent, spec.Type) {
		return status(as, id, api.Failed, t.notAllowed(spec.Parent, spec.Type)), nil
	}
	if s := t.failed(as); s != nil {
		return s, nil
	}
	if id == "" {
		id = mdev.NewUUID()
	}
	if err := t.Journal.begin(id, as); err != nil {
		return nil, err
	}
	req := change.Request{Kind: spec.Kind, ID: id, Parent: spec.Parent, Type: spec.Type.Full(), Contract: spec.Contract}
	for _, c := range spec.Copy {
		req.Attributes = append(req.Attributes, change.Attribute{Name: c.Name, Value: c.Value})
	}
	dev, err := t.machine.Start(ctx, req)
	if e, ok := errors.AsType[*change.Error](err); ok && e.Reason == change.Locked {
		return nil, err
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		// What has this name now, if anything, is somebody else's.
		if err := t.Journal.drop(id); err != nil {
			return nil, err
		}
		return t.fail(as, status(as, as.Device, api.Failed, err.Error())), nil
	}
	delete(t.failures, keyOf(as))
	t.changed = true
	t.Log.Info("made a device", "device", dev.ID, "parent", dev.Parent, "type", dev.Type, "claim", as.Claim)
	return status(as, dev.ID, api.Made, ""), nil
}

// there is what is said of a device to be made that is there: it was made for
// the claim, or is a function that was bound to its driver and is idle.
func (t *turn) there(as *api.Assignment, dev *inventory.Device) (*api.Status, error) {
	spec := &as.Spec
	found := t.found(as, dev)
	mine := found || dev.Ours && t.mine(dev.ID, as)
	free := !mine && dev.Kind != inventory.Mdev && dev.InUse == inventory.No && !t.reserved(dev.ID, as)
	switch {
	case !mine && !free:
		return status(as, dev.ID, api.Failed, "there is a device of this name, which was not made for this claim"), nil
	case dev.Parent != spec.Parent || dev.Type != spec.Type:
		return status(as, dev.ID, api.Failed, fmt.Sprintf("it is %s on %s", dev.Type.Full(), dev.Parent)), nil
	case free && !t.policy.Managed(spec.Parent, spec.Type):
		return status(as, dev.ID, api.Failed, t.notAllowed(spec.Parent, spec.Type)), nil
	case free && len(spec.Copy) > 0:
		return status(as, dev.ID, api.Failed, fmt.Sprintf("it is bound to its driver already, and %s can be set only before that", spec.Copy[0].Name)), nil
	case dev.InUse == inventory.Unknown:
		return nil, fmt.Errorf("%s: whether a process has it open is not known", dev.ID)
	}
	var err error
	if free || found {
		err = t.Journal.note(dev.ID, entry{Claim: as.Claim, Source: spec.Source, Fence: as.Fence, Step: as.Step, Do: as.Do, Found: true})
	} else {
		err = t.Journal.begin(dev.ID, as)
	}
	if err != nil {
		return nil, err
	}
	return inUse(as, dev), nil
}

// inUse says that a device is there, and whether a process has it open.
func inUse(as *api.Assignment, dev *inventory.Device) *api.Status {
	if dev.InUse == inventory.Yes {
		return status(as, dev.ID, api.Busy, "")
	}
	return status(as, dev.ID, api.Made, "")
}

// found reports whether the device is a function that the claim got as it was.
func (t *turn) found(as *api.Assignment, dev *inventory.Device) bool {
	e, ok := t.Journal.device(dev.ID)
	return ok && e.Claim == as.Claim && e.Found
}

// reserved reports whether another assignment has the device.
func (t *turn) reserved(id string, as *api.Assignment) bool {
	return slices.ContainsFunc(t.list.Assignments, func(o api.Assignment) bool {
		if o.Claim == as.Claim && o.Spec.Source == as.Spec.Source {
			return false
		}
		return o.Device == id || o.Device == "" && t.Journal.picked(o.Claim, o.Spec.Source) == id
	})
}

// idle is a function of the parent and type that nobody uses; empty for none.
func (t *turn) idle(spec *api.ClaimDevice) string {
	for i := range t.inv.Devices {
		d := &t.inv.Devices[i]
		if d.Parent == spec.Parent && d.Type == spec.Type && d.Kind == spec.Kind && d.InUse == inventory.No && !t.reserved(d.ID, &api.Assignment{}) {
			return d.ID
		}
	}
	return ""
}

// hold changes nothing, and says whether the device is in use.
func (t *turn) hold(as *api.Assignment, id string) (*api.Status, error) {
	dev := t.inv.Device(id)
	switch {
	case dev == nil && t.inv.DevicesUnread:
		return nil, errUnread
	case dev == nil:
		return status(as, id, api.Gone, ""), nil
	case dev.InUse == inventory.Unknown:
		return nil, fmt.Errorf("%s: whether a process has it open is not known", id)
	}
	return inUse(as, dev), nil
}

// keep leaves the device to the host, with its definition, so that it is there
// again after the host was booted.
func (t *turn) keep(ctx context.Context, as *api.Assignment, id string) (*api.Status, error) {
	dev := t.inv.Device(id)
	switch {
	case dev == nil && t.inv.DevicesUnread:
		return nil, errUnread
	case dev == nil:
		return status(as, id, api.Gone, "it is not there any more, and a new one would not have its state"), nil
	}
	if err := t.Journal.begin(id, as); err != nil {
		return nil, err
	}
	if dev.Kind == inventory.Mdev && len(as.Spec.Definition) > 0 {
		if err := t.define(ctx, as, dev); err != nil {
			return status(as, id, api.Kept, "it has no definition: "+err.Error()), nil
		}
	}
	return status(as, id, api.Kept, ""), nil
}

var errUnread = errors.New("not all devices could be read: whether it is there is not known")

// define writes the device's definition. One that is there already is somebody
// else's, or was written by an agent that was killed then.
func (t *turn) define(ctx context.Context, as *api.Assignment, dev *inventory.Device) error {
	e, _ := t.Journal.device(dev.ID)
	if e.Defined {
		return nil
	}
	d, err := definition.Parse(as.Spec.Definition)
	if err != nil {
		return err
	}
	d.Parent, d.UUID = dev.Parent, dev.ID
	err = t.machine.Define(ctx, &d)
	if errors.Is(err, definition.ErrDefined) {
		return nil
	}
	if err != nil {
		return err
	}
	e.Defined = true
	return t.Journal.note(dev.ID, e)
}

// undefine removes a definition that Kindred wrote, when its device has left.
func (t *turn) undefine(ctx context.Context, id, parent string) error {
	e, _ := t.Journal.device(id)
	if !e.Defined {
		return nil
	}
	if err := t.machine.Undefine(ctx, parent, id); err != nil && !errors.Is(err, definition.ErrNotDefined) {
		return err
	}
	e.Defined = false
	return t.Journal.note(id, e)
}

// release has the device removed: one that was made for the claim, or the
// claim's source.
func (t *turn) release(ctx context.Context, as *api.Assignment, id string) (*api.Status, error) {
	dev := t.inv.Device(id)
	if id == "" || dev == nil {
		if t.inv.DevicesUnread {
			return nil, errUnread
		}
		if id != "" {
			if err := t.Journal.begin(id, as); err != nil {
				return nil, err
			}
		}
		return status(as, id, api.Gone, ""), nil
	}
	found := t.found(as, dev)
	switch {
	case !as.AtSource && !found && !(dev.Ours && t.mine(id, as)):
		return status(as, id, api.Stuck, "there is a device of this name, which was not made for this claim: it is left alone"), nil
	case !t.policy.Managed(dev.Parent, dev.Type):
		return status(as, id, api.Stuck, t.notAllowed(dev.Parent, dev.Type)), nil
	}
	if err := t.Journal.begin(id, as); err != nil {
		return nil, err
	}
	switch {
	case dev.InUse == inventory.Yes:
		return status(as, id, api.Busy, "a process has it open"), nil
	case dev.Kind == inventory.Mdev || dev.Ours && !found:
		if s := t.failed(as); s != nil {
			return s, nil
		}
		if err := t.undefine(ctx, id, dev.Parent); err != nil {
			return status(as, id, api.Stuck, err.Error()), nil
		}
		return t.stopped(as, id, t.machine.Stop(ctx, id))
	case dev.InUse == inventory.No: // a function that is nobody's now, as it was before
		return status(as, id, api.Gone, "it stays bound to its driver, as Kindred found it"), nil
	}
	return nil, fmt.Errorf("%s: whether a process has it open is not known", id)
}

// stopped says what came of a removal.
func (t *turn) stopped(as *api.Assignment, id string, err error) (*api.Status, error) {
	e, _ := errors.AsType[*change.Error](err)
	m, _ := errors.AsType[*mdev.Error](err)
	switch {
	case err == nil, m != nil && m.Reason == mdev.NoDevice:
		delete(t.failures, keyOf(as))
		t.changed = true
		t.Log.Info("removed a device", "device", id, "claim", as.Claim)
		return status(as, id, api.Gone, ""), nil
	case e != nil && e.Reason == change.Locked:
		return nil, err
	case e != nil && (e.Reason == change.InUse || e.Reason == change.HeldUp), m != nil && (m.Reason == mdev.InUse || m.Reason == mdev.BeingRemoved):
		return t.fail(as, status(as, id, api.Busy, err.Error())), nil
	}
	return t.fail(as, status(as, id, api.Stuck, err.Error())), nil
}
