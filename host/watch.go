// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"kindred/host/uevent"
	"kindred/inventory"
)

// Change is a parent or a device that came, went or changed.
type Change struct {
	Time   time.Time         `json:"time"`
	Event  Happening         `json:"event"`
	Parent *inventory.Parent `json:"parent,omitempty"`
	Device *inventory.Device `json:"device,omitempty"`
}

// Happening is what happened to it.
type Happening string

const (
	Present Happening = "present" // it was there when the watch began
	Added   Happening = "added"
	Removed Happening = "removed"
	Changed Happening = "changed"
	// Rescanned is of no object: events were lost, and all was read anew. What
	// changed meanwhile follows; what came and went is not told.
	Rescanned Happening = "rescanned"
)

// Events is where a watch hears that something happened: a [uevent.Conn].
type Events interface {
	Next(ctx context.Context) (uevent.Event, error)
}

const (
	// settle is how long events are collected before the host is read: they
	// come in bursts.
	settle = 20 * time.Millisecond
	// untyped is how long a device may be without its type: the kernel tells of
	// the device before it makes the link (mdev_device_create() of mdev_core.c
	// has them in this order), also of its being bound.
	untyped = time.Second
)

// Watch calls emit for every parent and device that is there, then for what
// comes, goes and changes, until ctx ends or emit fails. Events only say that
// something happened; what there is, is read from the host, so that a lost
// event is no lost change.
func (h *Host) Watch(ctx context.Context, events Events, emit func(Change) error) error {
	w := &watch{h: h, emit: emit, seen: make(map[string][]string), paths: make(map[string]string)}
	heard := make(chan heardEvent)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for {
			e, err := events.Next(ctx)
			select {
			case heard <- heardEvent{e, err}:
			case <-ctx.Done():
				return
			}
			if err != nil && !errors.Is(err, uevent.ErrOverrun) {
				return
			}
		}
	}()
	if err := w.begin(); err != nil {
		return err
	}
	var due <-chan time.Time // when to read the host
	var since time.Time      // when a device was first seen without its type
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case e := <-heard:
			switch {
			case errors.Is(e.err, uevent.ErrOverrun):
				clear(w.seen) // not all was heard
				if err := emit(Change{Time: time.Now().UTC(), Event: Rescanned}); err != nil {
					return err
				}
			case e.err != nil:
				return fmt.Errorf("watch: %w", e.err)
			case !w.hear(e.Event):
				continue
			}
			if due == nil {
				due = time.After(settle)
			}
		case <-due:
			due = nil
			wait := time.Since(since) < untyped || since.IsZero()
			incomplete, err := w.look(wait)
			if err != nil {
				return err
			}
			switch {
			case !incomplete:
				since = time.Time{}
			case wait:
				if since.IsZero() {
					since = time.Now()
				}
				due = time.After(settle)
			}
		}
	}
}

type heardEvent struct {
	uevent.Event
	err error
}

// watch is what is known so far.
type watch struct {
	h       *Host
	emit    func(Change) error
	parents map[string]inventory.Parent
	devices map[string]inventory.Device
	// seen are the actions heard of each mdev since the host was last read, by
	// its name: one that came and went in between is told, too.
	seen  map[string][]string
	paths map[string]string // their parents
}

// hear notes an event, and reports whether it may be of a parent or a device.
func (w *watch) hear(e uevent.Event) bool {
	switch {
	case e.Subsystem == "mdev" && (e.Action == "add" || e.Action == "remove"):
		name := path.Base(e.Path)
		w.seen[name] = append(w.seen[name], e.Action)
		w.paths[name] = path.Base(path.Dir(e.Path))
		return true
	case e.Subsystem == "mdev", e.Subsystem == "vfio-dev", e.Vars["MDEV_STATE"] != "":
		return true
	}
	return e.Subsystem == "pci" && e.Action != "change"
}

func (w *watch) read() (map[string]inventory.Parent, map[string]inventory.Device) {
	inv := w.h.List(true, true)
	parents, devices := make(map[string]inventory.Parent), make(map[string]inventory.Device)
	for _, p := range inv.Parents {
		parents[p.Name] = p
	}
	for _, d := range inv.Devices {
		devices[d.ID] = d
	}
	return parents, devices
}

func (w *watch) begin() error {
	w.parents, w.devices = w.read()
	now := time.Now().UTC()
	for _, name := range sortedKeys(w.parents) {
		if err := w.emit(Change{Time: now, Event: Present, Parent: new(w.parents[name])}); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(w.devices) {
		if err := w.emit(Change{Time: now, Event: Present, Device: new(w.devices[name])}); err != nil {
			return err
		}
	}
	return nil
}

// look reads the host and tells what is different. With wait a device without
// a type is left for the next time, which incomplete asks for.
func (w *watch) look(wait bool) (incomplete bool, err error) {
	parents, devices := w.read()
	var held []string
	if wait {
		for id, d := range devices {
			if d.Type.Name != "" {
				continue
			}
			before, known := w.devices[id]
			if known && !slices.Contains(w.seen[id], "remove") {
				incomplete = incomplete || before.Type.Name != ""
				devices[id] = before
			} else {
				held = append(held, id)
				delete(devices, id)
			}
		}
	}
	now := time.Now().UTC()
	tell := func(event Happening, p *inventory.Parent, d *inventory.Device) {
		if err == nil {
			err = w.emit(Change{Time: now, Event: event, Parent: p, Device: d})
		}
	}
	for _, id := range sortedKeys(w.devices) {
		d := w.devices[id]
		if _, there := devices[id]; !there || slices.Contains(w.seen[id], "remove") {
			tell(Removed, nil, &d)
		}
	}
	for _, name := range sortedKeys(w.parents) {
		if _, there := parents[name]; !there {
			p := w.parents[name]
			tell(Removed, &p, nil)
		}
	}
	for _, name := range sortedKeys(parents) {
		p := parents[name]
		switch before, known := w.parents[name]; {
		case !known:
			tell(Added, &p, nil)
		case !sameParent(&before, &p):
			tell(Changed, &p, nil)
		}
	}
	for _, id := range sortedKeys(devices) {
		d := devices[id]
		switch before, known := w.devices[id]; {
		case !known || slices.Contains(w.seen[id], "remove"):
			tell(Added, nil, &d)
		case before.Type != d.Type || before.Parent != d.Parent:
			tell(Changed, nil, &d)
		}
	}
	for _, id := range sortedKeys(w.seen) {
		_, was := w.devices[id]
		_, is := devices[id]
		// It came and went. Its removal may be heard of later than it is gone:
		// device_del() of the kernel takes it off its bus before it tells.
		if !was && !is && slices.Contains(w.seen[id], "add") && !slices.Contains(held, id) {
			d := inventory.Device{ID: id, Kind: inventory.Mdev, Parent: w.paths[id], InUse: inventory.Unknown}
			tell(Added, nil, &d)
			tell(Removed, nil, &d)
		}
	}
	clear(w.seen)
	for _, id := range held {
		w.seen[id] = []string{"add"} // it is not told yet
	}
	maps.DeleteFunc(w.paths, func(id, _ string) bool { return !slices.Contains(held, id) })
	w.parents, w.devices = parents, devices
	return incomplete || len(held) > 0, err
}

// sameParent compares what a parent is; its room changes with every device.
func sameParent(a, b *inventory.Parent) bool {
	return a.Kind == b.Kind && a.Namespace == b.Namespace && a.TypesUnread == b.TypesUnread &&
		slices.EqualFunc(a.Types, b.Types, func(x, y inventory.Type) bool { return x.TypeName == y.TypeName })
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, strings.Compare)
	return keys
}
