// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"
	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// outputFlag is -o.
type outputFlag struct{ format string }

func (f *outputFlag) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.format, "output", "o", "table", "output `FORMAT`: table, json or yaml")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
}

// check refuses an unknown format before any work is done.
func (f *outputFlag) check(cmd *cobra.Command) error {
	switch f.format {
	case "table", "json", "yaml":
		return nil
	}
	return usage(cmd, fmt.Errorf("unknown output format %q: it is one of table, json, yaml", f.format))
}

// print writes a value as JSON or YAML, or calls table.
func (f *outputFlag) print(cmd *cobra.Command, value any, table func()) error {
	if f.format == "table" {
		table()
		return nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	// YAML is written with text unquoted, where no escape means anything. JSON is
	// YAML too, so text that has to be escaped is shown in that form.
	if f.format == "yaml" && strings.IndexFunc(b.String(), hidden) < 0 {
		data, err := yaml.JSONToYAML(b.Bytes())
		if err != nil {
			return fmt.Errorf("encode the answer as YAML: %w", err)
		}
		b.Reset()
		b.Write(data)
	}
	cmd.Print(harmless(b.String()))
	return nil
}

// harmless escapes, in JSON, the characters that it allows to stand but a
// terminal could act on: C1 controls and format characters such as
// bidirectional overrides. They occur in quoted strings only.
func harmless(text string) string {
	if strings.IndexFunc(text, hidden) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case !hidden(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func hidden(r rune) bool {
	return r != '\n' && !unicode.IsPrint(r) && (r >= 0x7f || r < 0x20)
}

// clean makes text from a host fit for a terminal: whatever is not printable
// is shown as an escape.
func clean(text string) string {
	if plain(text) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && text[i] != "\ufffd"[0]:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// plain reports whether text is printable ASCII: a column for each byte.
func plain(text string) bool {
	for i := range len(text) {
		if text[i] < 0x20 || text[i] >= 0x7f {
			return false
		}
	}
	return true
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// table is rows under headers, in columns. The last column is wrapped to fit
// the terminal, or 80 characters where there is none.
type table struct {
	rows  [][]string // the first is the header
	cells []string   // of all rows, one after the other
	wide  bool       // a cell may not be plain
	width int
}

func newTable(header ...string) *table {
	width := 80
	if fd := int(os.Stdout.Fd()); term.IsTerminal(fd) {
		if w, _, err := term.GetSize(fd); err == nil && w >= 40 {
			width = w
		}
	}
	return &table{rows: [][]string{header}, wide: !plain(strings.Join(header, "")), width: width}
}

// expect makes room for that many rows, once.
func (t *table) expect(rows int) {
	t.rows = slices.Grow(t.rows, rows)
	t.cells = slices.Grow(t.cells, rows*len(t.rows[0]))
}

// add adds a row; cells are cleaned.
func (t *table) add(cells ...string) {
	start := len(t.cells)
	for _, cell := range cells {
		if !plain(cell) {
			cell, t.wide = clean(cell), true
		}
		t.cells = append(t.cells, cell)
	}
	t.rows = append(t.rows, t.cells[start:len(t.cells):len(t.cells)])
}

const gap = 2

// String lays the table out. The library named for tables measures and styles
// every cell on its own, which at five thousand devices takes longer than
// reading them from the kernel; plain columns need only their widths.
func (t *table) String() string {
	width := width
	if !t.wide {
		width = func(text string) int { return len(text) }
	}
	last := len(t.rows[0]) - 1
	widths := make([]int, last+1)
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], width(cell))
		}
	}
	indent := 0
	for _, w := range widths[:last] {
		indent += w + gap
	}
	room := max(t.width-indent, 20)
	var b strings.Builder
	b.Grow(len(t.rows) * (indent + min(widths[last], room) + 1))
	for _, row := range t.rows {
		blanks := 0 // owed before more text, so that none end a line
		put := func(cell string) {
			text := strings.TrimRight(cell, " ")
			if text != "" {
				pad(&b, blanks)
				b.WriteString(text)
				blanks = 0
			}
			blanks += len(cell) - len(text)
		}
		for i, cell := range row[:last] {
			put(cell)
			blanks += widths[i] - width(cell) + gap
		}
		if width(row[last]) <= room {
			put(row[last])
			b.WriteByte('\n')
			continue
		}
		for n, text := range wrap(row[last], room) {
			if n > 0 {
				blanks = indent
			}
			put(text)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func pad(b *strings.Builder, n int) {
	const blanks = "                                                                "
	for ; n > len(blanks); n -= len(blanks) {
		b.WriteString(blanks)
	}
	b.WriteString(blanks[:max(n, 0)])
}

// width is how many columns cleaned text takes.
func width(text string) int {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return displaywidth.String(text)
		}
	}
	return len(text)
}

// wrap breaks text into lines of at most room columns, at spaces where it can.
func wrap(text string, room int) []string {
	if width(text) <= room {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		for {
			switch {
			case line == "" && width(word) <= room:
				line = word
			case line == "":
				head := displaywidth.TruncateString(word, room, "")
				if head == "" {
					head = word
				}
				lines = append(lines, head)
				word = word[len(head):]
				continue
			case width(line)+1+width(word) <= room:
				line += " " + word
			default:
				lines = append(lines, line)
				line = ""
				continue
			}
			break
		}
	}
	return append(lines, line)
}
