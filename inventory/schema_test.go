// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
)

var update = flag.Bool("update", false, "write the committed schema anew")

const schemaFile = "../docs/schema/inventory.v1.json"

// infer makes the schema of the document from the Go types.
func infer(t *testing.T) *jsonschema.Schema {
	t.Helper()
	oneOf := func(what string, words ...any) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Enum: words, Description: what}
	}
	s, err := jsonschema.For[Inventory](&jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[Value]():      {Types: []string{"string", "null"}, Description: "one fact: text, null when it is known not to exist; left out when it was not observed"},
		reflect.TypeFor[time.Time]():  {Type: "string", Format: "date-time"},
		reflect.TypeFor[Answer]():     oneOf("", Yes, No, Unknown),
		reflect.TypeFor[Origin]():     oneOf("what the inventory was read from", FromKernel, FromTree, FromSimulator),
		reflect.TypeFor[ParentKind](): oneOf("how a parent offers its types", MdevParent, FunctionParent, VGPUParent),
		reflect.TypeFor[DeviceKind](): oneOf("what a device is made of", Mdev, VF, Function, VGPU),
		reflect.TypeFor[TypeSource](): oneOf("how a type came to be listed", ListedByKernel, ListedByConfig, ListedByIdle, ListedByDevice),
	}})
	if err != nil {
		t.Fatal(err)
	}
	neverNull(s)
	s.Schema = "https://json-schema.org/draft/2020-12/schema"
	s.Title = "Kindred's inventory of one host"
	schema := any(Schema)
	s.Properties["schema"].Const = &schema
	return s
}

// neverNull makes every list a list: one without members is [].
func neverNull(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	if slices.Equal(s.Types, []string{"null", "array"}) {
		s.Type, s.Types = "array", nil
	}
	neverNull(s.Items)
	neverNull(s.AdditionalProperties)
	for _, property := range s.Properties {
		neverNull(property)
	}
}

// TestSchema holds the committed schema against the Go types. With -update it
// is written anew.
func TestSchema(t *testing.T) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	schema := infer(t)
	schema.Schema = "https://json-schema.org/draft/2020-12/schema"
	schema.Title = Schema
	if err := enc.Encode(schema); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.MkdirAll(filepath.Dir(schemaFile), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(schemaFile, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(committed), b.String()); diff != "" {
		t.Errorf("%s is out of date (-) with the Go types (+): run go test ./inventory -run TestSchema -update\n%s", schemaFile, diff)
	}
}

// TestSchemaDecides: the committed schema takes what Encode writes, and
// refuses what Decode refuses for its shape.
func TestSchemaDecides(t *testing.T) {
	data, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	validate := func(data []byte) error {
		var document any
		if err := json.Unmarshal(data, &document); err != nil {
			t.Fatal(err)
		}
		return resolved.Validate(document)
	}
	for name, data := range map[string][]byte{
		"rich":  encode(t, rich()),
		"plain": encode(t, &Inventory{Schema: Schema, Origin: FromKernel, Host: Host{Name: "one"}}),
	} {
		if err := validate(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Decode(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range [][2]string{
		{`"ours": true`, `"theirs": true`},
		{`"ours": true`, `"ours": "yes"`},
		{`"release": "6.12.3"`, `"release": 6`},
		{`"fw.version": "1.2.3"`, `"fw.version": ["1.2.3"]`},
		{`"in_use": "yes"`, `"in_use": "maybe"`},
		{`"available": 3`, `"available": 3.5`},
		{`"types": []`, `"types": {}`},
		{`"complete": true`, `"complete": null, "completed": true`},
		{`"origin": "tree"`, `"origin": "dream"`},
		{`kindred.inventory/v1`, `kindred.inventory/v2`},
	} {
		data := replaced(t, c[0], c[1])
		if validate(data) == nil {
			t.Errorf("the schema takes %s", c[1])
		}
		if _, err := Decode(data); err == nil {
			t.Errorf("Decode takes %s", c[1])
		}
	}
}
