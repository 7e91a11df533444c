// SPDX-License-Identifier: Apache-2.0

// Package record is what Kindred itself keeps of a host's devices in
// /var/lib/kindred, because neither the kernel nor mdevctl's files have a
// place for it:
//
//	devices/<id>.json     the device is Kindred's own, how it was made, what it
//	                      promised its guest, and a change that is under way
//	idle/<parent>.json    the types a parent listed when it was idle
//	lock                  what changes of a device lock, one byte for each
//
// [Apply] reads: a file that cannot be read makes the fact not observed, with a
// warning; a file that is not there makes it absent. [Store] writes: each file
// is replaced as a whole and is on the disk when the write returns, so that a
// killed process or a power cut leaves the old one or the new one.
package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"kindred/host/tree"
	"kindred/inventory"
)

// Dir is where the records are.
const Dir = "var/lib/kindred"

// Idle is the record of one parent's types.
type Idle struct {
	Taken time.Time        `json:"taken"`
	Types []inventory.Type `json:"types"`
}

// Apply attaches what is on record to the devices and parents of inv.
func Apply(d tree.Dir, inv *inventory.Inventory, warn tree.Warn) {
	for i := range inv.Devices {
		dev := &inv.Devices[i]
		name := path.Join(Dir, "devices", file(dev.ID))
		var r Device
		switch err := read(d, name, &r, r.Check); {
		case err == nil:
			if r.Of(d, dev.Kind, dev.ID) {
				dev.Ours, dev.Canary, dev.Contract = r.Ours, r.Canary, r.Contract
			}
		case !errors.Is(err, fs.ErrNotExist):
			warn(name, err)
			dev.ContractUnread = true
		}
	}
	for i := range inv.Parents {
		p := &inv.Parents[i]
		if p.Kind != inventory.VGPUParent {
			continue // the other kinds list their types at all times
		}
		name := path.Join(Dir, "idle", file(p.Name))
		var r Idle
		switch err := read(d, name, &r, r.check); {
		case err == nil:
			r.complete(p, name)
		case !errors.Is(err, fs.ErrNotExist):
			warn(name, err)
		}
	}
}

func (r *Idle) check() error {
	for i := range r.Types {
		r.Types[i].Creatable = inventory.No // it was of then, and is not believed
	}
	one := inventory.Inventory{
		Origin: inventory.FromTree, Host: inventory.Host{Name: "record"},
		Parents: []inventory.Parent{{Name: "record", Kind: inventory.VGPUParent, Types: r.Types}},
	}
	return one.Validate()
}

// complete adds the remembered types that the parent does not list now.
func (r *Idle) complete(p *inventory.Parent, name string) {
	for _, t := range r.Types {
		known := p.Type(t.TypeName)
		if known != nil && known.ListedBy != inventory.ListedByDevice {
			continue
		}
		t.ListedBy, t.ListedIn, t.ListedAt = inventory.ListedByIdle, name, new(r.Taken)
		t.Creatable, t.Available = inventory.No, new(int)
		if known != nil {
			*known = t
		} else {
			p.Types = append(p.Types, t)
		}
	}
}

// RememberIdle writes, below root, the types of every parent of inv that has
// no instance and hides its types when it is full. It returns the files, as
// names below root. Links that lead out of root are refused, as when reading.
func RememberIdle(root string, inv *inventory.Inventory) ([]string, error) {
	busy := make(map[string]bool)
	for i := range inv.Devices {
		busy[inv.Devices[i].Parent] = true
	}
	below, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("remember types: %w", err)
	}
	defer below.Close()
	var files []string
	for i := range inv.Parents {
		p := &inv.Parents[i]
		if p.Kind != inventory.VGPUParent || busy[p.Name] || p.TypesUnread {
			continue // what could not be read may be an instance
		}
		r := Idle{Taken: inv.Taken}
		for _, t := range p.Types {
			if t.ListedBy == inventory.ListedByKernel {
				t.Facts = nil // the operator's, stated anew for every inventory
				r.Types = append(r.Types, t)
			}
		}
		if len(r.Types) == 0 {
			continue
		}
		name := path.Join(dirBelow(root), "idle", file(p.Name))
		if err := write(below, name, r); err != nil {
			return files, fmt.Errorf("remember the types of %s: %w", p.Name, err)
		}
		files = append(files, name)
	}
	return files, nil
}

// write replaces the file as a whole: a reader or a power cut sees the old one
// or the new one. Writers of one name exclude each other.
func write(below *os.Root, name string, r any) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := below.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	next := name + unfinished
	if err := below.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := below.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := below.Rename(next, name); err != nil {
		return err
	}
	return syncDir(below, path.Dir(name))
}

// unfinished is the end of the name of a file that is being written.
const unfinished = ".new"

// syncDir puts a directory's names on the disk.
func syncDir(below *os.Root, name string) error {
	dir, err := below.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// file is the record's file name for a kernel object: names of the kernel have
// no slash, but a copied tree is not to be trusted.
func file(id string) string {
	return strings.ReplaceAll(id, "/", "!") + ".json"
}

func read(d tree.Dir, name string, into any, check func() error) error {
	data, err := d.ReadFile(name)
	if err != nil {
		return err
	}
	if err := parse(data, into); err != nil {
		return err
	}
	if err := check(); err != nil {
		return fmt.Errorf("not a record: %w", err)
	}
	return nil
}

func parse(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("not a record: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("not a record: more text after its end")
	}
	return nil
}
