// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"errors"
	"testing"

	"kindred/internal/strictyaml"
)

// Each catalog here says something that could not do what it says, or leaves
// its source out.
func TestCatalogIsStrict(t *testing.T) {
	for name, text := range map[string]string{
		"known-bad with a malformed glob never applies": "known-bad:\n  - {builds: [{\"module:m\": \"[\"}], reason: r, source: s}\n",
		"known-bad with an empty selector":              "known-bad:\n  - {builds: [{}], reason: r, source: s}\n",
		"known-bad of a part that is not in the build":  "build: {modules: [m]}\nknown-bad:\n  - {builds: [{\"module:n\": \"*\"}], reason: r, source: s}\n",
		"epoch with a malformed glob":                   "epochs:\n  - {name: e, builds: [{\"module:m\": \"[\"}], source: s}\n",
		"version rule of a part not in the build":       "build:\n  modules: [m]\n  versions: [{part: \"firmware:fw\", rule: semver, source: s}]\n",
		"known-bad without source":                      "known-bad:\n  - {builds: [{\"module:m\": b}], reason: r}\n",
		"epoch without source":                          "epochs:\n  - {name: e, builds: [{\"module:m\": b}]}\n",
		"equivalence without source":                    "equivalent:\n  - types: [{namespace: ns, name: t}, {namespace: ns, name: u}]\n",
		"equivalence with an empty name":                "equivalent:\n  - {types: [{namespace: ns, name: t}, {namespace: ns}], source: s}\n",
		"min without range":                             "rules:\n  - {attribute: a, rule: equal, min: lo, source: s}\n",
		"a place on the host that does not exist":       "rules:\n  - {attribute: kernel.relase, of: host, rule: equal, source: s}\n",
		"a form that the rule does not read":            "rules:\n  - {attribute: a, rule: one-of, as: number, source: s}\n",
		"copy by glob":                                  "rules:\n  - {attribute: \"v/*\", of: device, rule: copy, source: s}\n",
		"an attribute's malformed glob":                 "rules:\n  - {attribute: \"v/[\", of: device, rule: ignore, source: s}\n",
		"two rules for one attribute":                   "rules:\n  - {attribute: a, rule: equal, source: s}\n  - {attribute: a, rule: ignore, source: s}\n",
		"an empty namespace":                            "schema: kindred.catalog/v1\nnamespaces: [\"\"]\n",
	} {
		if name != "an empty namespace" {
			text = catalogHead + text
		}
		if _, err := ParseCatalog("test", []byte(text)); err == nil {
			t.Errorf("taken: %s", name)
		}
	}
}

// The place of an error is where the error is.
func TestCatalogErrorPlace(t *testing.T) {
	for _, c := range []struct {
		text string
		line int
	}{
		{catalogHead + "migration:\n  - {can: \"maybe\", source: s}\n", 4},
		{catalogHead + "migration:\n  - {can: \"yes\"}\n", 4},
		{catalogHead + "proof:\n  canaries: yellow\n", 4},
		{catalogHead + "build:\n  parameters: [debug]\n", 4},
		{catalogHead + "title: x\nepochs:\n  - {name: e, source: s}\n", 5},
		{"namespaces: [ns]\nschema: kindred.catalog/v2\n", 2},
	} {
		_, err := ParseCatalog("test", []byte(c.text))
		if placed, ok := errors.AsType[*strictyaml.Error](err); !ok || placed.Line != c.line {
			t.Errorf("want line %d: %v", c.line, err)
		}
	}
}
