// SPDX-License-Identifier: Apache-2.0

// Package page puts what a measurement found into a page of the documentation,
// between two marks, so that figures and the command that made them stay together.
package page

import (
	"fmt"
	"os"
	"strings"
)

// Replace replaces what is between <!-- NAME --> and <!-- end of NAME -->, each on
// a line of its own.
func Replace(file, name, text string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->\n"
	before, rest, ok := strings.Cut(string(data), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the result: a line %q and one %q", file, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return os.WriteFile(file, []byte(before+begin+text+end+after), 0o644)
}
