// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// Error says what is wrong with a document, and where.
type Error struct {
	Line, Column int    // from 1; 0 when the place is named by Where instead
	Where        string // device, parent or key concerned; may be empty
	Problem      string
	Err          error // the cause, may be nil
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&b, "line %d, column %d: ", e.Line, e.Column)
	}
	if e.Where != "" {
		b.WriteString(e.Where + ": ")
	}
	b.WriteString(e.Problem)
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Encode is the document as indented JSON with a final newline, lists in their
// documented order. It refuses what Decode would.
func Encode(inv *Inventory) ([]byte, error) {
	if err := inv.Validate(); err != nil {
		return nil, fmt.Errorf("encode the inventory of %s: %w", inv.Host.Name, err)
	}
	// A list without members is [], never null: readers in other languages
	// iterate without asking.
	out := *inv
	out.Modules = append([]Module{}, inv.Modules...)
	out.Parents = append([]Parent{}, inv.Parents...)
	for i := range out.Parents {
		out.Parents[i].Types = append([]Type{}, out.Parents[i].Types...)
	}
	out.Devices = append([]Device{}, inv.Devices...)
	out.Warnings = append([]Warning{}, inv.Warnings...)
	out.Sort()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(out); err != nil {
		return nil, fmt.Errorf("encode the inventory of %s: %w", inv.Host.Name, err)
	}
	return b.Bytes(), nil
}

// Decode reads one document and checks that it is whole and consistent. Every
// error is an [*Error].
func Decode(data []byte) (*Inventory, error) {
	var head struct {
		Schema *string `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, place(data, err)
	}
	switch {
	case head.Schema == nil:
		return nil, &Error{Where: "schema", Problem: "missing: this is not a Kindred inventory"}
	case *head.Schema != Schema:
		return nil, &Error{Where: "schema", Problem: fmt.Sprintf("%q is not a version this program reads (it reads %q)", *head.Schema, Schema)}
	}
	if !utf8.Valid(data) {
		e := &Error{Problem: "not UTF-8"}
		e.Line, e.Column = position(data, int64(len(data)-len(bytes.TrimLeftFunc(data, func(r rune) bool { return r != utf8.RuneError }))))
		return nil, e
	}
	if err := checkShape(data, reflect.TypeFor[Inventory]()); err != nil {
		return nil, err
	}
	inv := new(Inventory)
	if err := json.Unmarshal(data, inv); err != nil {
		return nil, place(data, err)
	}
	if err := inv.Validate(); err != nil {
		return nil, err
	}
	inv.Sort()
	return inv, nil
}

// Validate checks that the inventory is consistent in itself. The error is an
// [*Error].
func (inv *Inventory) Validate() error {
	bad := func(where, format string, args ...any) error {
		return &Error{Where: where, Problem: fmt.Sprintf(format, args...)}
	}
	if inv.Host.Name == "" {
		return bad("host.name", "empty: every inventory names its host")
	}
	if err := inv.Origin.validate(); err != nil {
		return err
	}
	modules := make(map[string]bool, len(inv.Modules))
	for i := range inv.Modules {
		m := &inv.Modules[i]
		if m.Name == "" || modules[m.Name] {
			return bad(fmt.Sprintf("modules[%d]", i), "module %q is nameless or listed twice", m.Name)
		}
		modules[m.Name] = true
		if err := m.Parameters.validate("module ", m.Name); err != nil {
			return err
		}
	}
	if err := inv.Host.Facts.validate("host"); err != nil {
		return err
	}
	parents := make(map[string]bool, len(inv.Parents))
	for i := range inv.Parents {
		p := &inv.Parents[i]
		if p.Name == "" || parents[p.Name] {
			return bad(fmt.Sprintf("parents[%d]", i), "parent %q is nameless or listed twice", p.Name)
		}
		parents[p.Name] = true
		switch p.Kind {
		case MdevParent, FunctionParent, VGPUParent:
		default:
			return bad("parent "+p.Name, "kind %q is not one of mdev, function, vgpu", p.Kind)
		}
		if err := first(p.Firmware.validate("parent ", p.Name), p.Attributes.validate("parent ", p.Name), p.Facts.validate("parent ", p.Name)); err != nil {
			return err
		}
		types := make(map[TypeName]bool, len(p.Types))
		for j := range p.Types {
			t := &p.Types[j]
			if t.Name == "" || types[t.TypeName] {
				return bad("parent "+p.Name, "type %q is nameless or listed twice", t.Full())
			}
			if t.Available != nil && *t.Available < 0 {
				return bad("parent "+p.Name, "type %q has %d available", t.Full(), *t.Available)
			}
			types[t.TypeName] = true
			where := "parent " + p.Name + ", type " + t.Full()
			if err := first(t.Attributes.validate(where), t.Facts.validate(where), t.Creatable.validate(where, ", creatable"), t.Migration.validate(where)); err != nil {
				return err
			}
		}
	}
	return validateDevices(inv.Devices, func(name string) bool { return parents[name] })
}

func validateDevices(list []Device, isParent func(name string) bool) error {
	bad := func(where, format string, args ...any) error {
		return &Error{Where: where, Problem: fmt.Sprintf(format, args...)}
	}
	var few [16]string // a host has few
	ids := few[:0]
	for i := range list {
		ids = append(ids, strings.ToLower(list[i].ID))
	}
	slices.Sort(ids)
	for i := range list {
		d := &list[i]
		id := strings.ToLower(d.ID)
		at, _ := slices.BinarySearch(ids, id)
		switch {
		case d.ID == "":
			return bad(fmt.Sprintf("devices[%d]", i), "the device has no id")
		case at+1 < len(ids) && ids[at+1] == id:
			return bad("device "+d.ID, "listed twice")
		case d.Contract != nil && d.ContractUnread:
			return bad("device "+d.ID, "its contract is both there and not read")
		case !isParent(d.Parent):
			return bad("device "+d.ID, "its parent %q is not in this inventory", d.Parent)
		}
		const where = "device "
		err := first(d.Attributes.validate(where, d.ID), d.InUse.validate(where, d.ID, ", in_use"), d.Migration.validate(where, d.ID))
		if c := d.Contract; c != nil {
			err = first(err, c.TypeAttributes.validate(where, d.ID, ", contract"), c.DeviceAttributes.validate(where, d.ID, ", contract"))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// validate refuses sets that say two things of one name, and values that JSON
// would turn into "known absent". Where they are is put together when it is needed.
func (a *Attributes) validate(where ...string) error {
	for name, v := range a.Values {
		if v.State() == NotObserved || slices.Contains(a.Unread, name) {
			return &Error{Where: strings.Join(where, ""), Problem: fmt.Sprintf("attribute %q is both given and not read", name)}
		}
	}
	return nil
}

func (f Facts) validate(where ...string) error {
	for name, fact := range f {
		if fact.Value.State() == NotObserved {
			return &Error{Where: strings.Join(where, ""), Problem: fmt.Sprintf("fact %q has no value: leave it out", name)}
		}
	}
	return nil
}

func (o Origin) validate() error {
	switch o {
	case FromKernel, FromTree, FromSimulator:
		return nil
	}
	return &Error{Where: "origin", Problem: fmt.Sprintf("%q is not one of kernel, tree, simulator", string(o))}
}

func (a Answer) validate(where ...string) error {
	if a != Yes && a != No && a != Unknown {
		return &Error{Where: strings.Join(where, ""), Problem: fmt.Sprintf("%q is not one of yes, no, unknown", string(a))}
	}
	return nil
}

func (m *Migration) validate(where ...string) error {
	if m == nil {
		return nil
	}
	return m.Can.validate(strings.Join(where, ""), ", migration")
}

// place turns an error of encoding/json into one with line and column.
func place(data []byte, err error) error {
	e := &Error{Problem: strings.TrimPrefix(err.Error(), "json: "), Err: err}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		e.Line, e.Column = position(data, syntax.Offset)
	} else if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		e.Line, e.Column = position(data, wrong.Offset)
		e.Problem = fmt.Sprintf("%s is a %s, which does not fit there", wrong.Field, wrong.Value)
	} else if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		e.Line, e.Column = position(data, int64(len(data)))
	}
	if len(bytes.TrimSpace(data)) == 0 {
		e.Problem = "empty"
	} else if strings.HasPrefix(e.Problem, "unexpected end") || errors.Is(err, io.ErrUnexpectedEOF) {
		e.Problem = "the document ends too early: it is cut short"
	}
	return e
}

// position is the 1-based line and column of a byte offset.
func position(data []byte, offset int64) (line, column int) {
	offset = min(max(offset, 0), int64(len(data)))
	before := data[:offset]
	line = bytes.Count(before, []byte{'\n'}) + 1
	column = int(offset) - (bytes.LastIndexByte(before, '\n') + 1)
	return line, max(column, 1)
}

// first is the first error of several checks.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
