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

// upgradeTitle begins the page's second part.
const upgradeTitle = "A rolling upgrade"

// writePage puts both stories on their page. One that was not told this time stays
// as it was there.
func writePage(t *testing.T, file, head string, fleet, upgrade *story) {
	t.Helper()
	if t.Failed() {
		t.Logf("what happened:\n%s%s", fleet, upgrade)
	}
	if t.Failed() || !*update {
		return
	}
	old, _ := os.ReadFile(file) // there may be none yet
	first, second, _ := strings.Cut(strings.TrimPrefix(string(old), head), "\n## "+upgradeTitle+"\n")
	if fleet.Len() > 0 {
		first = fleet.String()
	}
	text := head + first + "\n## " + upgradeTitle + "\n" + second
	if upgrade.Len() > 0 {
		text = head + first + upgrade.String()
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
