// SPDX-License-Identifier: Apache-2.0

//go:build linux

package definition

import (
	"os"
	"path/filepath"
	"testing"
)

// TestParentLinks: a parent's directory that is a link is read, and is written
// to only when the link is relative and stays among the definitions.
func TestParentLinks(t *testing.T) {
	const id = "11111111-0000-4000-8000-00000000000a"
	root := t.TempDir()
	dir := filepath.Join(root, Dir)
	if err := os.MkdirAll(filepath.Join(dir, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "real", id), []byte(`{"mdev_type":"t-1","start":"auto"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"relative": "real", "absolute": "/" + Dir + "/real"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	store, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for name, writes := range map[string]bool{"relative": true, "absolute": false} {
		if list := store.Read(Filter{Parent: name}, func(name string, err error) { t.Error(name, err) }); len(list) != 1 {
			t.Errorf("%s: %v is read", name, list)
		}
		err := store.Modify(t.Context(), name, id, func(d *Definition) error { d.Auto = false; return nil })
		if (err == nil) != writes {
			t.Errorf("%s: %v", name, err)
		}
	}
}
