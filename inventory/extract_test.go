// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is extracted is one consistent document of its own, and says that there
// may be more than it holds.
func TestExtract(t *testing.T) {
	whole := rich()
	before := encode(t, whole)
	for i := range whole.Devices {
		d := &whole.Devices[i]
		part, err := whole.Extract(d.ID)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(encode(t, part))
		if err != nil {
			t.Fatalf("%s: %v", d.ID, err)
		}
		if len(back.Devices) != 1 || len(back.Parents) != 1 || len(back.Parents[0].Types) > 1 {
			t.Errorf("%s: %d devices, %d parents", d.ID, len(back.Devices), len(back.Parents))
		}
		if !back.DevicesUnread || !back.ParentsUnread || !back.Parents[0].TypesUnread {
			t.Errorf("%s: what was left out is denied", d.ID)
		}
		if diff := cmp.Diff(*d, *part.Device(d.ID), cmp.Comparer(func(a, b Value) bool { return a == b })); diff != "" {
			t.Errorf("%s: %s", d.ID, diff)
		}
		if diff := cmp.Diff(whole.Modules, part.Modules, cmp.Comparer(func(a, b Value) bool { return a == b })); diff != "" {
			t.Errorf("%s: %s", d.ID, diff)
		}
	}
	if string(encode(t, whole)) != string(before) {
		t.Error("extracting changed the whole")
	}
}

func TestExtractNothing(t *testing.T) {
	whole := rich()
	if _, err := whole.Extract("no-such-device"); err == nil {
		t.Error("a device that is not there was extracted")
	} else if _, ok := errors.AsType[*Error](err); !ok {
		t.Errorf("%T", err)
	}
	whole.Parents = nil
	if _, err := whole.Extract(whole.Devices[0].ID); err == nil {
		t.Error("a device without its parent was extracted")
	}
}

// TestExtractType: the part for a type is that for a device of it, but for the
// device.
func TestExtractType(t *testing.T) {
	whole := rich()
	for i := range whole.Devices {
		d := &whole.Devices[i]
		if whole.Parent(d.Parent).Type(d.Type) == nil {
			continue // the parent lists it no more
		}
		with, err := whole.Extract(d.ID)
		if err != nil {
			t.Fatal(err)
		}
		part, err := whole.ExtractType(d.Parent, d.Type)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(encode(t, part)); err != nil {
			t.Errorf("%s: %v", d.ID, err)
		}
		part.Devices = with.Devices
		if string(encode(t, part)) != string(encode(t, with)) {
			t.Errorf("%s: the part for its type is another than its own", d.ID)
		}
	}
	if _, err := whole.ExtractType("no-such-parent", whole.Devices[0].Type); err == nil {
		t.Error("a parent that is not there was extracted")
	}
	if _, err := whole.ExtractType(whole.Parents[0].Name, TypeName{Namespace: "no", Name: "such"}); err == nil {
		t.Error("a type that is not offered was extracted")
	}
}
