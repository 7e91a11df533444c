// SPDX-License-Identifier: Apache-2.0

package page

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReplace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte("a\n<!-- x -->\nold\n<!-- end of x -->\nb\n<!-- y -->\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Replace(file, "x", "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	if err := Replace(file, "y", "new\n"); err == nil {
		t.Error("a mark without an end is a place")
	}
	data, err := os.ReadFile(file)
	if want := "a\n<!-- x -->\nnew\n<!-- end of x -->\nb\n<!-- y -->\n"; err != nil || string(data) != want {
		t.Errorf("%q, %v; want %q", data, err, want)
	}
}
