// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"errors"
	"strings"
	"testing"

	"kindred/internal/strictyaml"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ name, text, problem string }{
		{"good", "facts:\n  - host: \"gpu-*\"\n    set: {ecc: \"on\", mig: null}\n", ""},
		{"nothing", "", ""},
		{"unknown key", "facts:\n  - hosts: a\n    set: {a: b}\n", "line 2, column 5"},
		{"not YAML", "facts: [\n", "line 1"},
		{"sets nothing", "facts:\n  - host: a\n", "sets nothing"},
		{"bad glob", "facts:\n  - parent: \"[\"\n    set: {a: b}\n", "not a glob"},
		{"an alias", "facts:\n  - set: &a {a: b}\n  - set: *a\n", "line 2, column"},
		{"wrong type", "facts:\n  - set: [a]\n", "line 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.text))
			if c.problem == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), c.problem) {
				t.Errorf("%v; want %q", err, c.problem)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("facts:\n  - host: \"gpu-*\"\n    parent: \"0000:41:00.0\"\n    type: \"nvidia-*\"\n    set: {ecc: \"on\", mig: null}\n"))
	f.Add([]byte("facts:\n  - set: &a {a: *a}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := Parse(data)
		if own, ok := errors.AsType[*strictyaml.Error](err); ok && (own.Line < 1 || own.Column < 1) {
			t.Errorf("an error without a place: %v", err)
		}
	})
}
