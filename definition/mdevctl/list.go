// SPDX-License-Identifier: Apache-2.0

package mdevctl

import (
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"

	"kindred/definition"
	"kindred/definition/callout"
	"kindred/host/mdev"
	"kindred/host/tree"
)

// row is one line of list.
type row struct {
	definition.Definition
	active, defined bool
	hidden          bool // from the text, but not from JSON
}

func (r *run) list(o *options) error {
	d, err := r.open()
	if err != nil {
		return err
	}
	defer d.Close()
	var rows []row
	switch {
	case o.parent != nil && *o.parent == "":
		// No parent has that name.
	case o.defined:
		rows = r.definedRows(d, o)
		if len(rows) == 0 && o.uuid != nil && len(definition.Files(d, o.filter(), func(string, error) {})) > 0 {
			return fmt.Errorf("the definition of %s cannot be read", o.name())
		}
	default:
		rows = r.activeRows(d, o)
		if o.verbose || o.dump {
			r.addAttributes(rows)
		}
	}
	var out []byte
	if o.dump {
		out = rowsJSON(rows, o.uuid != nil)
	} else {
		out = rowsText(rows, o.defined, o.verbose)
	}
	return r.printLong(append(out, '\n'))
}

// deref is the text, or "" where there is none.
func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (o *options) filter() definition.Filter {
	return definition.Filter{Parent: deref(o.parent), UUID: deref(o.uuid)}
}

// key is what a definition is found by.
type key struct{ parent, uuid string }

// definedRows are the definitions, by parent and UUID.
func (r *run) definedRows(d tree.Dir, o *options) []row {
	files := definition.Files(d, o.filter(), r.warn)
	plain := make(map[key]bool) // has a file with the name in the kernel's form
	wanted := make(map[string]bool)
	for _, f := range files {
		if f.Definition != nil {
			wanted[f.Definition.UUID] = true
			plain[key{f.Parent, f.Name}] = true
		}
	}
	active := make(map[string]row)
	if len(wanted) > 0 {
		for _, dev := range r.active(d, func(id string) bool { return wanted[id] }) {
			active[dev.UUID] = dev
		}
	}
	var rows []row
	for _, f := range files {
		if f.Definition == nil {
			continue
		}
		dev, running := active[f.Definition.UUID]
		rows = append(rows, row{
			Definition: *f.Definition,
			active:     running && dev.Parent == f.Parent && dev.Type == f.Definition.Type,
			hidden:     !plain[key{f.Parent, f.Definition.UUID}],
		})
	}
	return rows
}

// active reads running devices. One without a type is just being made or
// removed, and not listed, as in mdevctl.
func (r *run) active(d tree.Dir, named mdev.Named) []row {
	devices, _ := mdev.DevicesNamed(d, func(name string) bool {
		id, err := definition.ParseUUID(name)
		if err != nil {
			r.warn("sys/bus/mdev/devices/"+name, err)
		}
		return err == nil && named(id)
	}, mdev.Brief, r.warn)
	rows := make([]row, 0, len(devices))
	for i := range devices {
		if typ := mdev.TypeDir(devices[i].Type); typ != "" {
			rows = append(rows, row{Definition: definition.Definition{Parent: devices[i].Parent, UUID: devices[i].ID, Type: typ}, active: true})
		}
	}
	return rows
}

// activeRows are the running devices, by parent and UUID. What their
// definitions say goes before what the kernel says, also of the type: so does
// mdevctl 1.2.0. Newer ones take only the start from there.
func (r *run) activeRows(d tree.Dir, o *options) []row {
	rows := r.active(d, func(id string) bool { return o.uuid == nil || id == *o.uuid })
	if o.parent != nil {
		kept := rows[:0]
		for _, row := range rows {
			if row.Parent == *o.parent {
				kept = append(kept, row)
			}
		}
		rows = kept
	}
	if len(rows) == 0 {
		return nil
	}
	// A definition that cannot be read is one nevertheless. Of it is warned in
	// the listing of definitions.
	files := make(map[key]definition.File)
	for _, f := range definition.Files(d, o.filter(), func(string, error) {}) {
		files[key{f.Parent, f.Name}] = f
	}
	for i := range rows {
		f, defined := files[key{rows[i].Parent, rows[i].UUID}]
		rows[i].defined = defined
		if defined && f.Definition != nil {
			rows[i].Definition = *f.Definition
		}
	}
	return rows
}

// addAttributes asks callouts for the attributes of running devices, several
// at a time: mdevctl asks since 1.3.0, for one after the other and also when
// none are printed. What no callout knows is as it is defined.
func (r *run) addAttributes(rows []row) {
	scripts := r.scripts()
	if scripts.None() {
		return
	}
	// Whoever asks waits in a system call. With one processor of Go's more than
	// they are none has to be taken from one that waits, over and over.
	asking := 2 * runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(asking + 1))
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(asking, len(rows)) {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(rows); i = int(next.Add(1)) - 1 {
				r.addAttributesTo(scripts, &rows[i])
			}
		})
	}
	group.Wait()
}

func (r *run) addAttributesTo(scripts *callout.Scripts, row *row) {
	attrs, err := scripts.Attributes(r.context(), callout.Device{UUID: row.UUID, Parent: row.Parent, Type: row.Type})
	if err != nil {
		r.tell("Warning: attributes of " + row.UUID + ": " + err.Error())
	}
	if len(attrs) > 0 {
		row.Attributes = attrs
	}
}

func rowsText(rows []row, defined, verbose bool) []byte {
	b := make([]byte, 0, 96*len(rows)+1)
	for i := range rows {
		row := &rows[i]
		if row.hidden {
			continue
		}
		b = append(append(b, row.UUID...), ' ')
		b = append(append(b, row.Parent...), ' ')
		b = append(append(b, row.Type...), ' ')
		b = append(b, row.Start()...)
		switch {
		case defined && row.active:
			b = append(b, " (active)"...)
		case !defined && row.defined:
			b = append(b, " (defined)"...)
		}
		b = append(b, '\n')
		if verbose && len(row.Attributes) > 0 {
			b = appendAttributes(append(b, "  Attrs:\n"...), row.Attributes)
		}
	}
	return b
}

// appendAttributes numbers attributes as modify counts them.
func appendAttributes(b []byte, attrs []definition.Attribute) []byte {
	for i, a := range attrs {
		b = strconv.AppendInt(append(b, "    @{"...), int64(i), 10)
		b = append(append(b, `}: {"`...), a.Name...)
		b = append(append(b, `":"`...), a.Value...)
		b = append(b, "\"}\n"...)
	}
	return b
}

// rowsJSON groups devices by their parents. One device that was asked for is
// printed alone, so that it can be the input of define.
func rowsJSON(rows []row, one bool) []byte {
	if len(rows) == 0 {
		return []byte("[]")
	}
	if one && len(rows) == 1 {
		return appendRow(nil, &rows[0], "")
	}
	b := append(make([]byte, 0, 224*len(rows)), "[\n  {"...)
	for i := range rows {
		if i == 0 || rows[i].Parent != rows[i-1].Parent {
			if i > 0 {
				b = append(b, "\n    ],"...)
			}
			b = append(definition.AppendString(append(b, "\n    "...), rows[i].Parent), ": ["...)
		} else {
			b = append(b, ',')
		}
		b = append(definition.AppendString(append(b, "\n      {\n        "...), rows[i].UUID), ": "...)
		b = append(appendRow(b, &rows[i], "        "), "\n      }"...)
	}
	return append(b, "\n    ]\n  }\n]"...)
}

func appendRow(b []byte, row *row, indent string) []byte {
	field := func(name string) {
		b = append(append(b, "\n  "...), indent...)
		b = append(definition.AppendString(b, name), ": "...)
	}
	b = append(b, '{')
	field("mdev_type")
	b = append(definition.AppendString(b, row.Type), ',')
	field("start")
	b = append(definition.AppendString(b, row.Start()), ',')
	field("attrs")
	b = definition.AppendAttributes(b, row.Attributes, indent+"  ")
	return append(append(append(b, '\n'), indent...), '}')
}
