// SPDX-License-Identifier: Apache-2.0

package draft

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kindred/compat"
	"kindred/compat/lint"
	"kindred/inventory"
)

// check wants a draft that parses, passes lint and answers its examples.
func check(t *testing.T, inv *inventory.Inventory, namespace string) string {
	t.Helper()
	text, err := Catalog(inv, namespace)
	if err != nil {
		t.Fatal(err)
	}
	c, err := compat.ParseCatalog("draft", []byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	trials, untried, err := c.Try(compat.BuiltIn())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range trials {
		if x.Wrong != "" {
			t.Errorf("%s: %s: %s in\n%s", namespace, x.Example, x.Wrong, text)
		}
	}
	for _, u := range untried {
		t.Errorf("%s: the rule for %s lacks %s", namespace, u.Rule, u.Wants)
	}
	for _, f := range lint.Run(lint.Input{Catalogs: []*compat.Catalog{c}}) {
		if f.Waived == "" {
			t.Errorf("%s: %s %s: %s", namespace, f.Code, f.About, f.Reason)
		}
	}
	return text
}

// TestRecorded drafts catalogs from hosts that were recorded.
func TestRecorded(t *testing.T) {
	files, err := filepath.Glob("../../demo/recorded/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		inv, err := inventory.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, ns := range Namespaces(inv) {
			check(t, inv, ns)
		}
	}
}

// TestHostile drafts from names and values that are not meant for YAML.
func TestHostile(t *testing.T) {
	odd := []string{"a: b", "# c", "'\"", "line\nbreak", "\x1b[31m", "{x}", "- y", "&z *z", "日本", "%s%d", strings.Repeat("w", 500)}
	for _, text := range odd {
		typ := inventory.Type{TypeName: inventory.TypeName{Namespace: text, Name: text}, DeviceAPI: inventory.Of(text), Label: inventory.Of(text), Creatable: inventory.Yes, ListedBy: inventory.ListedByKernel}
		for _, name := range odd {
			typ.Attributes.Set(name, text)
		}
		typ.Attributes.Set("version", text)
		typ.Attributes.Set("api_version", "1.2")
		inv := &inventory.Inventory{
			Host:    inventory.Host{Name: text},
			Parents: []inventory.Parent{{Name: "p", Kind: inventory.MdevParent, Namespace: text, Modules: []string{text}, Types: []inventory.Type{typ}}},
			Devices: []inventory.Device{{ID: "d", Parent: "p", Type: typ.TypeName, Attributes: inventory.Attributes{Values: map[string]inventory.Value{text: inventory.Of(text), "uuid": inventory.Of("is d")}}}},
		}
		check(t, inv, text)
	}
}

func TestNoSuchNamespace(t *testing.T) {
	if _, err := Catalog(&inventory.Inventory{Host: inventory.Host{Name: "a"}}, "acme"); err == nil {
		t.Error("a catalog of nothing")
	}
}
