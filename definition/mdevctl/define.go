// SPDX-License-Identifier: Apache-2.0

package mdevctl

import (
	"errors"
	"fmt"
	"io"
	"os"

	"kindred/definition"
	"kindred/definition/callout"
	"kindred/host/mdev"
)

// maxFile is the longest --jsonfile that is read.
const maxFile = 1 << 20

// fromFile reads a definition from --jsonfile, which may be standard input.
func fromFile(name string) (*definition.Definition, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the definition: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = errors.New("it is longer than 1 MiB")
	}
	var d definition.Definition
	if err == nil {
		d, err = definition.Parse(data)
	}
	if err != nil {
		return nil, fmt.Errorf("the definition in %s: %w", name, err)
	}
	return &d, nil
}

// running is the device of that UUID, if it runs.
func (r *run) running(uuid string) (*row, error) {
	d, err := r.open()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	rows := r.active(d, func(id string) bool { return id == uuid })
	if len(rows) == 0 {
		return nil, nil
	}
	return &rows[0], nil
}

// identify gives d the UUID that was asked for, or a new one.
func (o *options) identify(d *definition.Definition) *definition.Definition {
	if o.uuid != nil {
		d.UUID = *o.uuid
	} else {
		d.UUID = mdev.NewUUID()
	}
	return d
}

// printNew prints the UUID that the user does not know.
func (r *run) printNew(o *options, d *definition.Definition) error {
	if o.uuid != nil {
		return nil
	}
	return r.print(r.Stdout, d.UUID+"\n")
}

func (r *run) define(o *options) error {
	d, active, err := r.newDefinition(o)
	if err != nil {
		return err
	}
	store, err := r.store()
	if err != nil {
		return err
	}
	defer store.Close()
	// Said before any script runs; Define makes sure of it.
	if there := store.Read(definition.Filter{Parent: d.Parent, UUID: d.UUID}, r.warn); len(there) > 0 {
		return fmt.Errorf("device %s on %s: %w; use modify, or undefine it first", d.UUID, d.Parent, definition.ErrDefined)
	}
	err = r.scripts().Do(r.context(), callout.Define, callout.For(d), o.force, func(c *callout.Call) error {
		if active {
			attrs, err := c.Attributes(r.context())
			if err != nil {
				return fmt.Errorf("the attributes of the running device: %w", err)
			}
			d.Attributes = append(d.Attributes, attrs...)
		}
		return store.Define(r.context(), d)
	})
	if err != nil {
		return err
	}
	return r.printNew(o, d)
}

// newDefinition is what define was asked for. Whatever was not said of a
// device that runs is taken from it.
func (r *run) newDefinition(o *options) (d *definition.Definition, active bool, err error) {
	if o.jsonfile != nil {
		if o.parent == nil {
			return nil, false, errors.New("--jsonfile needs --parent")
		}
		if d, err = fromFile(*o.jsonfile); err != nil {
			return nil, false, err
		}
		d.Parent = *o.parent
		return o.identify(d), false, nil
	}
	d = o.identify(&definition.Definition{Parent: deref(o.parent), Type: deref(o.typ), Auto: o.auto})
	if o.uuid != nil {
		dev, err := r.running(d.UUID)
		if err != nil {
			return nil, false, err
		}
		active = dev != nil
		if active && o.typ == nil {
			d.Type = dev.Type
			if o.parent == nil {
				d.Parent = dev.Parent
			}
		}
	}
	switch {
	case d.Parent == "":
		return nil, false, fmt.Errorf("device %s: no parent is given, and none follows from a running device", d.UUID)
	case d.Type == "":
		return nil, false, fmt.Errorf("device %s: no type is given, and none follows from a running device", d.UUID)
	}
	return d, active, nil
}

func (r *run) undefine(o *options) error {
	store, err := r.store()
	if err != nil {
		return err
	}
	defer store.Close()
	files := store.Files(o.filter(), r.warn)
	if len(files) == 0 || o.parent != nil && *o.parent == "" {
		return fmt.Errorf("device %s: %w", o.name(), definition.ErrNotDefined)
	}
	scripts := r.scripts()
	var failed []error
	for _, f := range files {
		remove := func(*callout.Call) error { return store.Undefine(r.context(), f.Parent, *o.uuid) }
		if f.Definition == nil { // its type is not known, so whose callout it is, neither
			err = remove(nil)
		} else {
			err = scripts.Do(r.context(), callout.Undefine, callout.For(f.Definition), o.force, remove)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("undefine %s on %s: %w", *o.uuid, f.Parent, err))
		}
	}
	return errors.Join(failed...)
}

// name is the device as the user named it.
func (o *options) name() string {
	if o.parent != nil {
		return *o.parent + "/" + deref(o.uuid)
	}
	return deref(o.uuid)
}

// defined is the one definition that the flags choose.
func (r *run) defined(store *definition.Store, o *options) (*definition.Definition, error) {
	var unread error
	list := store.Read(o.filter(), func(name string, err error) {
		unread = fmt.Errorf("/%s: %s", name, reason(err))
	})
	switch {
	case o.parent != nil && *o.parent == "":
	case len(list) == 1:
		return &list[0], nil
	case len(list) > 1:
		return nil, fmt.Errorf("device %s is defined on several parents (%s, %s): say which with --parent", o.name(), list[0].Parent, list[1].Parent)
	case unread != nil:
		return nil, unread
	}
	return nil, fmt.Errorf("device %s: %w", o.name(), definition.ErrNotDefined)
}

func (r *run) modify(o *options) error {
	if o.live {
		return r.modifyLive(o)
	}
	store, err := r.store()
	if err != nil {
		return err
	}
	defer store.Close()
	if o.jsonfile != nil {
		return r.replace(store, o)
	}
	d, err := r.defined(store, o)
	if err != nil {
		return err
	}
	return r.write(r.scripts(), store, d, o.force, o.edit)
}

// replace puts what is in a file in the place of a definition, or makes one
// that is not there, as mdevctl does since 1.3.0.
func (r *run) replace(store *definition.Store, o *options) error {
	if o.parent == nil {
		return errors.New("--jsonfile needs --parent")
	}
	next, err := fromFile(*o.jsonfile)
	if err != nil {
		return err
	}
	d, err := r.defined(store, o)
	if errors.Is(err, definition.ErrNotDefined) {
		next.Parent, next.UUID = *o.parent, *o.uuid
		return r.scripts().Do(r.context(), callout.Modify, callout.For(next), o.force, func(*callout.Call) error {
			return store.Define(r.context(), next)
		})
	}
	if err != nil {
		return err
	}
	return r.write(r.scripts(), store, d, o.force, func(d *definition.Definition) error { d.Replace(next); return nil })
}

// write changes a definition between its scripts, which are told how it will be.
func (r *run) write(scripts *callout.Scripts, store *definition.Store, d *definition.Definition, force bool, change func(*definition.Definition) error) error {
	next := *d // change replaces what it changes
	if err := change(&next); err != nil {
		return err
	}
	return scripts.Do(r.context(), callout.Modify, callout.For(&next), force, func(*callout.Call) error {
		return store.Modify(r.context(), d.Parent, d.UUID, change)
	})
}

// edit is what the flags of modify change.
func (o *options) edit(d *definition.Definition) error {
	if o.typ != nil {
		d.Type = *o.typ
	}
	if o.auto || o.manual {
		d.Auto = o.auto
	}
	switch {
	case o.addattr != nil:
		at := len(d.Attributes)
		if o.index != nil {
			at = *o.index
		}
		return d.Insert(at, definition.Attribute{Name: *o.addattr, Value: *o.value})
	case o.delattr && o.index != nil:
		return d.Delete(*o.index)
	case o.delattr && len(d.Attributes) > 0:
		return d.Delete(len(d.Attributes) - 1)
	}
	return nil
}

// modifyLive lets a callout change the running device, and then the definition
// if that was asked for too.
func (r *run) modifyLive(o *options) error {
	dev, err := r.running(*o.uuid)
	if err != nil {
		return err
	}
	if dev == nil || o.parent != nil && dev.Parent != *o.parent {
		return fmt.Errorf("device %s is not running", o.name())
	}
	next, err := fromFile(*o.jsonfile)
	if err != nil {
		return err
	}
	next.Parent, next.UUID = dev.Parent, dev.UUID
	if next.Type != dev.Type {
		return fmt.Errorf("device %s is of type %s: it cannot become %s while it runs", dev.UUID, dev.Type, next.Type)
	}
	scripts := r.scripts()
	if !o.defined {
		return scripts.Live(r.context(), callout.For(next))
	}
	store, err := r.store()
	if err != nil {
		return err
	}
	defer store.Close()
	d, err := r.defined(store, &options{uuid: o.uuid, parent: &dev.Parent})
	if err != nil {
		return err
	}
	if d.Type != dev.Type {
		return fmt.Errorf("device %s runs as %s and is defined as %s", dev.UUID, dev.Type, d.Type)
	}
	if err := scripts.Live(r.context(), callout.For(next)); err != nil {
		return err
	}
	return r.write(scripts, store, d, o.force, func(d *definition.Definition) error { d.Replace(next); return nil })
}
