// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// story is what happened, for people: the page docs/libvirt-shown.md.
type story struct{ bytes.Buffer }

// section begins a part of the page.
func (s *story) section(title, text string) {
	fmt.Fprintf(s, "\n## %s\n\n%s\n", title, text)
}

// command has one command with what it printed, long lines broken.
func (s *story) command(where string, argv []string, said string) {
	s.WriteString("\n```\n")
	for line := range strings.Lines(where + "# " + strings.Join(argv, " ") + "\n" + strings.TrimSpace(said)) {
		line = strings.ReplaceAll(strings.TrimRight(line, " \n"), "\r", "\n")
		for len(line) > pageWidth {
			at := strings.LastIndexByte(line[:pageWidth], ' ')
			if at <= 4 {
				break // one long word
			}
			fmt.Fprintf(s, "%s\n", line[:at])
			line = "    " + line[at+1:]
		}
		fmt.Fprintf(s, "%s\n", line)
	}
	s.WriteString("```\n")
}

const pageWidth = 158

// note is a sentence on what was found.
func (s *story) note(format string, args ...any) { fmt.Fprintf(s, "\n"+format+"\n", args...) }

// write puts a story on its page.
func (s *story) write(t *testing.T, file, head string) {
	t.Helper()
	if t.Failed() {
		t.Logf("what happened:\n%s", s)
	}
	if t.Failed() || !*update {
		return
	}
	if err := os.WriteFile(file, append([]byte(head), s.Bytes()...), 0o644); err != nil {
		t.Fatal(err)
	}
}
