// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
)

var update = flag.Bool("update", false, "write the committed schema anew")

const schemaFile = "../docs/schema/catalog.v1.json"

// TestSchema holds the committed schema against the Go types.
func TestSchema(t *testing.T) {
	if *update {
		if err := os.WriteFile(schemaFile, JSONSchema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(committed), string(JSONSchema())); diff != "" {
		t.Errorf("%s is out of date (-) with the Go types (+): run make schema\n%s", schemaFile, diff)
	}
}

// TestSchemaDecides: the schema takes every catalog that is right, and refuses
// those whose shape is wrong.
func TestSchemaDecides(t *testing.T) {
	var s jsonschema.Schema
	if err := json.Unmarshal(JSONSchema(), &s); err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	validate := func(text string) error {
		data, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var document any
		if err := json.Unmarshal(data, &document); err != nil {
			t.Fatal(err)
		}
		return resolved.Validate(document)
	}
	entries, err := builtIn.ReadDir("catalog")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := builtIn.ReadFile("catalog/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(string(data)); err != nil {
			t.Errorf("%s: %v", e.Name(), err)
		}
	}
	if err := validate(wholeCatalog); err != nil {
		t.Error(err)
	}
	for _, change := range [][2]string{
		{"schema: kindred.catalog/v1", "schema: kindred.catalog/v2"},
		{"title:", "titel:"},
		{"identity: label", "identity: face"},
		{"lowest: fresh-state", "lowest: perfect"},
		{"rule: equal, as: list, source: s4", "rule: similar, source: s4"},
		{"rule: equal, as: list, source: s4", "rule: equal, as: list"},
		{"absent: off", "absent: maybe"},
		{"absent: {value: \"0\"}", "absent: {values: \"0\"}"},
		{"role: target", "role: host"},
		{"of: parent", "of: moon"},
	} {
		text := strings.Replace(wholeCatalog, change[0], change[1], 1)
		if text == wholeCatalog {
			t.Fatalf("%s is not in the catalog", change[0])
		}
		if validate(text) == nil {
			t.Errorf("the schema takes %s", change[1])
		}
		if _, err := ParseCatalog("test", []byte(text)); err == nil {
			t.Errorf("ParseCatalog takes %s", change[1])
		}
	}
}
