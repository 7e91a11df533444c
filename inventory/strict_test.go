// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"errors"
	"testing"
)

// An error names its place: line and column, or what it is about.
func TestErrorPlace(t *testing.T) {
	whole := encode(t, rich())
	for _, c := range []struct{ name, old, with string }{
		{"unknown key", `"ours": true`, `"theirs": true`},
		{"a number for a value", `"release": "6.12.3"`, `"release": 6`},
		{"a number for an attribute", `"fw.version": "1.2.3"`, `"fw.version": 123`},
		{"an answer that is none", `"in_use": "yes"`, `"in_use": "maybe"`},
		{"a time that is none", `"recorded": "2026-01-02T03:04:05.000000678Z"`, `"recorded": "yesterday"`},
	} {
		want := lineOf(whole, c.old)
		_, err := Decode(replaced(t, c.old, c.with))
		if e, ok := errors.AsType[*Error](err); !ok || e.Line != want && (e.Line != 0 || e.Where == "") {
			t.Errorf("%s: want line %d: %#v", c.name, want, err)
		}
	}
}

// A list without members is [], never null.
func TestNoNullLists(t *testing.T) {
	inv := rich()
	inv.Parents[1].Types = nil
	if data := encode(t, inv); bytes.Contains(data, []byte(`"types": null`)) {
		t.Error("types is null")
	}
}

// Encoding does not change what it is given: others read it meanwhile.
func TestEncodeChangesNothing(t *testing.T) {
	inv := rich()
	inv.Parents[0], inv.Parents[1] = inv.Parents[1], inv.Parents[0]
	first := inv.Parents[0].Name
	encode(t, inv)
	if inv.Parents[0].Name != first {
		t.Error("the parents were put into another order")
	}
}

// A fact that was not observed must not come back as known absent.
func TestNotObservedStaysNotObserved(t *testing.T) {
	inv := rich()
	inv.Host.Facts["f"] = Fact{Source: "s"}
	inv.Parents[0].Attributes.Values["v"] = Value{}
	data, err := Encode(inv)
	if err != nil {
		return // refusing is right too
	}
	back, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if got := back.Host.Facts.Get("f").State(); got != NotObserved {
		t.Errorf("the fact is %s", got)
	}
	if got := back.Parent("0000:41:00.0").Attributes.Get("v").State(); got != NotObserved {
		t.Errorf("the attribute is %s", got)
	}
}

// Decode accepts only what Encode could have written.
func TestDecodeTakes(t *testing.T) {
	const head = `{"schema":"kindred.inventory/v1","origin":"tree","taken":"2026-01-02T03:04:05Z","host":{"name":"a"},"modules":[],"warnings":[],`
	for name, rest := range map[string]string{
		"a type without creatable":        `"devices":[],"parents":[{"name":"p","types":[{"namespace":"n","name":"t","listed_by":"kernel"}]}]}`,
		"evidence without an answer":      `"devices":[],"parents":[{"name":"p","types":[{"namespace":"n","name":"t","creatable":"no","listed_by":"kernel","migration":{"source":"s"}}]}]}`,
		"a null answer":                   `"devices":[],"parents":[{"name":"p","types":[{"namespace":"n","name":"t","creatable":null,"listed_by":"kernel"}]}]}`,
		"a kind of parent that is none":   `"devices":[],"parents":[{"name":"p","kind":"moon","types":[]}]}`,
		"an attribute read and unread":    `"devices":[],"parents":[{"name":"p","kind":"mdev","attributes":{"values":{"a":"1"},"unread":["a"]},"types":[]}]}`,
		"a key twice":                     `"devices":[],"parents":[],"parents":[]}`,
		"a key in capitals":               `"DEVICES":[],"parents":[]}`,
		"a contract that is and is not":   `"devices":[{"id":"d","kind":"mdev","parent":"p","type":{"namespace":"n","name":"t"},"in_use":"no","contract":{"type":{"namespace":"n","name":"t"},"recorded":"2026-01-02T03:04:05Z"},"contract_unread":true}],"parents":[{"name":"p","kind":"mdev","types":[]}]}`,
		"a contract about no type":        `"devices":[{"id":"d","kind":"mdev","parent":"p","type":{"namespace":"n","name":"t"},"in_use":"no","contract":{"recorded":"2026-01-02T03:04:05Z"}}],"parents":[{"name":"p","kind":"mdev","types":[]}]}`,
		"the same device in another case": `"devices":[{"id":"ab","kind":"mdev","parent":"p","in_use":"no","contract":null},{"id":"AB","kind":"mdev","parent":"p","in_use":"no","contract":null}],"parents":[{"name":"p","kind":"mdev","types":[]}]}`,
		"no devices":                      `"parents":[]}`,
	} {
		inv, err := Decode([]byte(head + rest))
		if err != nil {
			continue
		}
		t.Errorf("taken: %s", name)
		if data, err := Encode(inv); err == nil {
			if _, err := Decode(data); err != nil {
				t.Errorf("... and refused when encoded again: %v", err)
			}
		}
	}
}
