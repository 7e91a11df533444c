// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindred/inventory"
)

var unexported = cmp.AllowUnexported(inventory.Value{}, Report{})

// same compares what Parse makes of a text with what encoding/json makes of it.
func same(t *testing.T, text []byte) (plain bool) {
	t.Helper()
	var got, want Report
	err, err2 := got.Parse(text), json.Unmarshal(text, &want)
	plain, got.text = got.text != nil, nil
	if (err == nil) != (err2 == nil) {
		t.Fatalf("%s\n%v, not %v", text, err, err2)
	}
	if diff := cmp.Diff(&want, &got, unexported); err == nil && diff != "" {
		t.Errorf("%s\n(-json +parse):\n%s", text, diff)
	}
	return plain
}

// TestParse: reports of recorded machines are what encoding/json says, also where
// something is in them that is not plain; and most are plain.
func TestParse(t *testing.T) {
	files, err := filepath.Glob("../demo/recorded/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded inventories: %v", err)
	}
	plain := 0
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		inv, err := inventory.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		_, own := inventory.Split(inv)
		text, err := json.Marshal(&Report{Own: own, Version: "1", Agent: "a", Mode: Manage})
		if err != nil {
			t.Fatal(err)
		}
		if same(t, text) {
			plain++
		}
		for _, change := range [][2]string{{`"1"`, `"é\n"`}, {`"mode":`, `"more":[{}],"mode":`}, {`"version":"1"`, `"version":null`}, {`{"own":`, `{ "own":`}, {`"mode"`, `"MODE"`}, {`"devices":`, `"devices":[],"devices":`}} {
			if other := bytes.Replace(text, []byte(change[0]), []byte(change[1]), 1); same(t, other) {
				t.Errorf("plain: %s", other)
			}
		}
	}
	if plain < len(files)/2 {
		t.Errorf("%d of %d reports are plain", plain, len(files))
	}
}

// FuzzParse: no text is read in another way than encoding/json reads it.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"own":{"static":"1","host":"h","origin":"simulator","taken":"2026-01-02T03:04:05Z","available":[1,-1],"creatable":"y?","devices":[{"id":"a","kind":"mdev","parent":"p","type":{"namespace":"n","name":"t"},"driver":"d","modules":["m"],"iommu_group":"1","node":null,"in_use":"yes","ours":true,"attributes":{"values":{"a":"b","c":null},"unread":["d"],"complete":true},"contract":{"type":{"namespace":"n","name":"t"},"label":"l","device_api":"vfio-pci","type_attributes":{"complete":true},"host":"h","recorded":"2026-01-02T03:04:05Z"}},{"id":"b","kind":"vf","parent":"p","type":{"namespace":"n","name":"t"},"in_use":"no","contract":null}]},"version":"1","agent":"a","mode":"manage"}`))
	f.Add([]byte(`{"own":{"devices":[],"available":null,"devices_unread":true},"leftover":["x"]}`))
	f.Fuzz(func(t *testing.T, text []byte) { same(t, text) })
}
