// SPDX-License-Identifier: Apache-2.0

package strictyaml

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/goccy/go-yaml/ast"
	"github.com/google/go-cmp/cmp"
)

type document struct {
	Name   string            `yaml:"name"`
	Count  int               `yaml:"count"`
	List   []string          `yaml:"list"`
	Map    map[string]string `yaml:"map"`
	Inner  *document         `yaml:"inner"`
	Colour colour            `yaml:"colour"`
}

type colour string

func (c *colour) UnmarshalYAML(node ast.Node) error {
	var text string
	if err := Node(node, &text); err != nil {
		return err
	}
	if text != "red" {
		return At(node, "%q is no colour", text)
	}
	*c = colour(text)
	return nil
}

func TestDecode(t *testing.T) {
	const text = `# people write this
name: "a: b"
count: 0x10
list: [x, "yes", no]
map:
  module:m: b*
  'on': "off"
inner:
  name: |
    two
    lines
  colour: red
`
	want := document{
		Name: "a: b", Count: 16, List: []string{"x", "yes", "no"}, Map: map[string]string{"module:m": "b*", "on": "off"},
		Inner: &document{Name: "two\nlines\n", Colour: "red"},
	}
	var got document
	if err := Decode([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := Decode(nil, &got); err != nil {
		t.Errorf("nothing is no document, and no error: %v", err)
	}
}

func nested(open, inner, shut string, levels int) string {
	return strings.Repeat(open, levels) + inner + strings.Repeat(shut, levels)
}

func blocks(levels int) string {
	var b strings.Builder
	for i := range levels {
		fmt.Fprintf(&b, "%sinner:\n", strings.Repeat("  ", i))
	}
	return b.String() + strings.Repeat("  ", levels) + "name: a\n"
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct {
		name, text, words string
		line, column      int // column 0: any
	}{
		{"unknown key", "name: a\nsize: 1\n", `"size"`, 2, 1},
		{"unknown key inside", "inner:\n  name: a\n  size: 1\n", `"size"`, 3, 3},
		{"duplicate key", "name: a\nname: b\n", "already defined", 2, 1},
		{"duplicate key of a map", "map:\n  a: b\n  a: c\n", "already defined", 3, 3},
		{"a list for text", "name: [a]\n", "", 1, 7},
		{"text for a number", "count: many\n", "", 1, 8},
		{"text for a list", "\nlist: a\n", "", 2, 7},
		{"a list for the document", "- a\n", "", 1, 0},
		{"anchor", "name: &a b\n", "anchors", 1, 7},
		{"alias", "inner:\n  name: *a\n", "anchors", 2, 9},
		{"merge key", "map:\n  <<: {a: b}\n", "anchors", 2, 3},
		{"unclosed list", "list: [a\n", "", 1, 0},
		{"unclosed quote", "name: 'a\n", "", 1, 0},
		{"a tab", "inner:\n\tname: a\n", "cannot start", 2, 0},
		{"a type's own error", "name: a\ninner:\n  colour: blue\n", "no colour", 3, 11},
		{"a type's own error about the form", "colour: [red]\n", "", 1, 9},
		{"deep lists", "list: " + nested("[", "a", "]", 40) + "\n", "deep", 1, 39},
		{"deep mappings", nested("{inner: ", "{}", "}", 40) + "\n", "deep", 1, 0},
		{"deep unclosed lists", strings.Repeat("[", 1<<19), "deep", 1, 33},
		{"deep blocks", blocks(40), "deep", 34, 0},
		{"too long", strings.Repeat("#", maxSize+1), "bytes", 1, 1},
		{"no text", "\x00\x01", "", 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d document
			err := Decode([]byte(c.text), &d)
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("%v, %+v", err, d)
			}
			if !strings.Contains(e.Problem, c.words) || strings.Contains(err.Error(), "\n") || e.Line != c.line || c.column != 0 && e.Column != c.column {
				t.Errorf("want %q at line %d, column %d: %v", c.words, c.line, c.column, err)
			}
		})
	}
}

func TestLongestFile(t *testing.T) {
	text := "name: a\n#" + strings.Repeat("x", maxSize-9)
	var d document
	if err := Decode([]byte(text), &d); err != nil || len(text) != maxSize || d.Name != "a" {
		t.Errorf("%d bytes: %v", len(text), err)
	}
	if err := Decode([]byte(text+"x"), &d); err == nil {
		t.Error("a byte more is taken")
	}
}

// TestDepth: what people write fits in, by a wide margin.
func TestDepth(t *testing.T) {
	for _, text := range []string{nested("{inner: ", "{name: a}", "}", 20), blocks(20)} {
		var d document
		if err := Decode([]byte(text), &d); err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"", "name: a\n", "name: [a]\n", "a: &x b\nc: *x\n", "{{{{", "- - - a\n", "? a\n: b\n", "name: |\n  a\n", "name: >-\n a\n\n b", "--- a\n--- b\n...\n", "%YAML 1.2\n---\nname: a",
		"name: !!str 1\n", "colour: blue\n", "inner: {inner: {inner: {name: a}}}", "map: {a: b, a: c}", "list:\n- a\n-  b\n", "\ufeffname: a", "name: \"\\x41\\u0041\"", "name: a # b\r\ncount: 1\r\n", "inner:\n\tname: a",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<12 {
			return // how long a file may take is tested elsewhere
		}
		for _, into := range []any{new(document), new(any), new(map[string]any), new([]string), new(string)} {
			err := Decode(data, into)
			if err == nil {
				continue
			}
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Line < 1 || e.Column < 0 || e.Problem == "" || strings.ContainsAny(e.Problem, "\n\r") {
				t.Errorf("an error without a place, or of several lines: %#v", err)
			}
		}
	})
}
