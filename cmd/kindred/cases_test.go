// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var updateCases = flag.Bool("update", false, "write the outputs in docs/cases.md anew")

// TestCases runs every command of docs/cases.md in its case's directory. With
// -update the outputs are written anew.
func TestCases(t *testing.T) {
	page, err := filepath.Abs("../../docs/cases.md")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	cases := filepath.Join(filepath.Dir(page), "cases")
	used := make(map[string]bool)
	var made strings.Builder
	dir, commands := "", 0
	for line := range strings.Lines(string(data)) {
		text := strings.TrimSuffix(line, "\n")
		switch {
		case dir == "":
			made.WriteString(line)
			if name, ok := strings.CutPrefix(text, "```console "); ok {
				dir = filepath.Join(cases, name)
				used[name] = true
			}
		case text == "```":
			made.WriteString(line)
			dir = ""
		case strings.HasPrefix(text, "$ kindred "):
			if !strings.HasSuffix(made.String(), "\n\n") && !strings.Contains(lastLine(made.String()), "```console") {
				made.WriteString("\n")
			}
			made.WriteString(line)
			made.WriteString(answer(t, dir, strings.Fields(text)[2:]))
			commands++
		}
	}
	if *updateCases {
		if err := os.WriteFile(page, []byte(made.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(string(data), made.String()); diff != "" {
		t.Errorf("docs/cases.md (-) is not what the program says (+); go test ./cmd/kindred -run TestCases -update\n%s", diff)
	}
	entries, err := os.ReadDir(cases)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !used[e.Name()] {
			t.Errorf("docs/cases/%s is on no page", e.Name())
		}
	}
	if commands < 12 {
		t.Errorf("only %d commands were run", commands)
	}
}

func lastLine(text string) string {
	text = strings.TrimSuffix(text, "\n")
	return text[strings.LastIndex(text, "\n")+1:]
}

// answer is what a command prints in a directory, and its exit code unless 0.
func answer(t *testing.T, dir string, args []string) string {
	t.Helper()
	t.Chdir(dir)
	var out, errs bytes.Buffer
	code := run(context.Background(), args, &out, &errs)
	text := out.String() + errs.String()
	if code != exitOK {
		text += fmt.Sprintf("(exit code %d)\n", code)
	}
	return text
}
