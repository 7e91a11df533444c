// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// TestHarmless: what a terminal could act on is escaped, and stays what it was
// for whoever reads the document.
func TestHarmless(t *testing.T) {
	for _, text := range []string{"plain", "a\u202eb", "c\u0085d", "e\x7ff\n\u202eg"} {
		for _, format := range []string{"json", "yaml"} {
			var out strings.Builder
			cmd := &cobra.Command{}
			cmd.SetOut(&out)
			f := outputFlag{format}
			if err := f.print(cmd, map[string]string{"k": text}, nil); err != nil {
				t.Fatal(err)
			}
			if strings.IndexFunc(out.String(), hidden) >= 0 {
				t.Errorf("%s of %q can act on a terminal: %q", format, text, out.String())
			}
			var back map[string]string
			if err := yaml.Unmarshal([]byte(out.String()), &back); err != nil || back["k"] != text {
				t.Errorf("%s of %q reads as %q, %v", format, text, back["k"], err)
			}
		}
	}
}

// TestTable: columns line up, no line ends in blanks, and the last column is
// wrapped.
func TestTable(t *testing.T) {
	list := newTable("A", "WIDE", "LAST")
	list.width = 28
	list.expect(2)
	list.add("1", "界", "some words that do not fit in here")
	list.add("22", "  ", "")
	list.add("", "x ", " ")
	list.add("3", "", "y")
	want := "A   WIDE  LAST\n1   界    some words that do\n          not fit in here\n22\n    x\n3         y\n"
	if got := list.String(); got != want {
		t.Errorf("the table is\n%q\nwant\n%q", got, want)
	}
}
