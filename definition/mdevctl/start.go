// SPDX-License-Identifier: Apache-2.0

package mdevctl

import (
	"errors"
	"fmt"

	"kindred/definition"
	"kindred/definition/callout"
	"kindred/host/mdev"
)

func (r *run) start(o *options) error {
	d, err := r.toStart(o)
	if err != nil {
		return err
	}
	if err := r.create(r.scripts(), d, o.force); err != nil {
		return err
	}
	return r.printNew(o, d)
}

func (r *run) create(scripts *callout.Scripts, d *definition.Definition, force bool) error {
	return scripts.Do(r.context(), callout.Start, callout.For(d), force, func(*callout.Call) error {
		return r.Change.Start(r.context(), d)
	})
}

// toStart is the device that start was asked for: one that is defined, or one
// that the flags say all of.
func (r *run) toStart(o *options) (*definition.Definition, error) {
	if o.jsonfile != nil {
		if o.parent == nil {
			return nil, errors.New("--jsonfile needs --parent")
		}
		d, err := fromFile(*o.jsonfile)
		if err != nil {
			return nil, err
		}
		d.Parent = *o.parent
		return o.identify(d), nil
	}
	if o.uuid != nil {
		d, err := r.definedToStart(o)
		if err != nil || d != nil {
			return d, err
		}
	}
	d := o.identify(&definition.Definition{Parent: deref(o.parent), Type: deref(o.typ)})
	switch {
	case d.Parent == "" && d.Type == "":
		return nil, fmt.Errorf("device %s is not defined, and neither a parent nor a type is given", d.UUID)
	case d.Parent == "":
		return nil, fmt.Errorf("device %s is not defined, and no parent is given", d.UUID)
	case d.Type == "":
		return nil, fmt.Errorf("device %s on %s is not defined, and no type is given", d.UUID, d.Parent)
	}
	return d, nil
}

// definedToStart is nil when there is no definition.
func (r *run) definedToStart(o *options) (*definition.Definition, error) {
	store, err := r.store()
	if err != nil {
		return nil, err
	}
	defer store.Close()
	d, err := r.defined(store, o)
	switch {
	case errors.Is(err, definition.ErrNotDefined):
		return nil, nil
	case err != nil:
		return nil, err
	case o.typ != nil && *o.typ != d.Type:
		return nil, fmt.Errorf("device %s is defined on %s as %s, not as %s", d.UUID, d.Parent, d.Type, *o.typ)
	}
	return d, nil
}

func (r *run) stop(o *options) error {
	dev, err := r.running(*o.uuid)
	if err != nil {
		return err
	}
	if dev == nil {
		return fmt.Errorf("device %s is not running", *o.uuid)
	}
	return r.scripts().Do(r.context(), callout.Stop, callout.For(&dev.Definition), o.force, func(*callout.Call) error {
		return r.Change.Stop(r.context(), dev.UUID)
	})
}

// startParent starts what is defined to start with the parent. That one device
// cannot be started does not keep the others from it, and is no failure: udev
// has nobody to tell.
func (r *run) startParent(o *options) error {
	parent := o.args[0]
	d, err := r.open()
	if err != nil {
		return err
	}
	defer d.Close()
	var list []definition.Definition
	if parent != "" {
		list = definition.Read(d, definition.Filter{Parent: parent}, r.warn)
	}
	wanted := make(map[string]bool)
	for i := range list {
		wanted[list[i].UUID] = list[i].Auto
	}
	// The rule for old kernels calls us when the parent is added, which is
	// before its driver registers it on others: there will be another call.
	registered, _ := mdev.ParentsNamed(d, func(name string) bool { return name == parent }, mdev.Brief, r.warn)
	if len(registered) == 0 {
		return nil
	}
	running := make(map[string]bool)
	for _, dev := range r.active(d, func(id string) bool { return wanted[id] }) {
		running[dev.UUID] = dev.Parent == parent
	}
	scripts := r.scripts()
	for i := range list {
		if !list[i].Auto || running[list[i].UUID] {
			continue
		}
		if err := r.create(scripts, &list[i], false); err != nil {
			r.tell(fmt.Sprintf("Warning: device %s on %s was not started: %v", list[i].UUID, parent, err))
		}
	}
	return nil
}
