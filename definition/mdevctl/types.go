// SPDX-License-Identifier: Apache-2.0

package mdevctl

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"kindred/definition"
	"kindred/host/mdev"
	"kindred/inventory"
)

func (r *run) types(o *options) error {
	d, err := r.open()
	if err != nil {
		return err
	}
	defer d.Close()
	var named mdev.Named
	if o.parent != nil {
		named = func(name string) bool { return name == *o.parent }
	}
	parents, _ := mdev.ParentsNamed(d, named, mdev.Described, func(name string, err error) {
		if strings.HasSuffix(name, "/name") && errors.Is(err, fs.ErrNotExist) {
			return // a type may have no name
		}
		r.warn(name, err)
	})
	// A parent or type of which something is missing that others cannot do
	// without is left out, with a warning: mdevctl prints nothing then. What was asked for by
	// name cannot be left out.
	if o.parent != nil && len(parents) == 1 && parents[0].TypesUnread {
		return fmt.Errorf("the types of %s cannot be read", *o.parent)
	}
	parents = slices.DeleteFunc(parents, func(p inventory.Parent) bool { return p.TypesUnread })
	for i := range parents {
		parents[i].Types = slices.DeleteFunc(parents[i].Types, func(t inventory.Type) bool {
			return t.Available == nil || t.DeviceAPI.State() != inventory.Present
		})
	}
	var out []byte
	if o.dump {
		out = typesJSON(parents)
	} else {
		out = typesText(parents)
	}
	return r.printLong(append(out, '\n'))
}

// trimmed is a value as mdevctl prints it.
func trimmed(v inventory.Value) string { return strings.TrimSpace(v.Text()) }

// description has no line ends.
func description(t *inventory.Type) string {
	return strings.ReplaceAll(trimmed(t.Description), "\n", ", ")
}

// room is about how much the types print, with so much beside each one's own text: memory that
// grows is copied, and touched for the first time, over and over.
func room(parents []inventory.Parent, beside int) []byte {
	n := 64
	for i := range parents {
		n += len(parents[i].Name) + 64
		for j := range parents[i].Types {
			t := &parents[i].Types[j]
			n += beside + len(t.Namespace) + len(t.Name) + len(t.DeviceAPI.Text()) + len(t.Label.Text()) + len(t.Description.Text())
		}
	}
	return make([]byte, 0, n)
}

func typesText(parents []inventory.Parent) []byte {
	b := room(parents, 96)
	line := func(label, text string) {
		if text != "" {
			b = append(append(append(b, label...), text...), '\n')
		}
	}
	for i := range parents {
		line("", parents[i].Name)
		for j := range parents[i].Types {
			t := &parents[i].Types[j]
			line("  ", mdev.TypeDir(t.TypeName))
			line("    Available instances: ", strconv.Itoa(*t.Available))
			b = append(append(append(b, "    Device API: "...), trimmed(t.DeviceAPI)...), '\n')
			line("    Name: ", trimmed(t.Label))
			line("    Description: ", description(t))
		}
	}
	return b
}

func typesJSON(parents []inventory.Parent) []byte {
	if len(parents) == 0 {
		return []byte("[]")
	}
	b := append(room(parents, 192), "[\n  {"...)
	for i := range parents {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(definition.AppendString(append(b, "\n    "...), parents[i].Name), ": ["...)
		for j := range parents[i].Types {
			if j > 0 {
				b = append(b, ',')
			}
			b = appendType(b, &parents[i].Types[j])
		}
		if len(parents[i].Types) > 0 {
			b = append(b, "\n    "...)
		}
		b = append(b, ']')
	}
	return append(b, "\n  }\n]"...)
}

func appendType(b []byte, t *inventory.Type) []byte {
	field := func(name, text string) {
		if text != "" {
			b = append(definition.AppendString(append(b, ",\n          "...), name), ": "...)
			b = definition.AppendString(b, text)
		}
	}
	b = definition.AppendString(append(b, "\n      {\n        "...), mdev.TypeDir(t.TypeName))
	b = strconv.AppendInt(append(b, ": {\n          \"available_instances\": "...), int64(*t.Available), 10)
	b = append(b, ",\n          \"device_api\": "...)
	b = definition.AppendString(b, trimmed(t.DeviceAPI))
	field("name", trimmed(t.Label))
	field("description", description(t))
	return append(b, "\n        }\n      }"...)
}
