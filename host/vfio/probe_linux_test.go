// SPDX-License-Identifier: Apache-2.0

package vfio

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindred/host/tree"
	"kindred/inventory"
)

func TestFromDebugfs(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"0000:01:00.1/migration", "plain"} {
		if err := os.MkdirAll(filepath.Join(root, debugDir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d, err := tree.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for id, want := range map[string]*inventory.Migration{
		"0000:01:00.1": {Can: inventory.Yes, Source: "debugfs"},
		"plain":        {Can: inventory.No, Source: "debugfs"},
		"none":         nil,
	} {
		got := FromDebugfs(d, id, func(name string, err error) { t.Errorf("%s: %v", name, err) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", id, diff)
		}
	}
}

func TestMigrationFlags(t *testing.T) {
	for flags, want := range map[Flags]*inventory.Migration{
		7: {Can: inventory.Yes, Source: "probe", Flags: []string{"stop-copy", "p2p", "pre-copy"}},
		1: {Can: inventory.Yes, Source: "probe", Flags: []string{"stop-copy"}},
		2: {Can: inventory.No, Source: "probe", Flags: []string{"p2p"}},
		0: {Can: inventory.No, Source: "probe"},
	} {
		if diff := cmp.Diff(want, migration(flags)); diff != "" {
			t.Errorf("flags %d: -want +got:\n%s", flags, diff)
		}
	}
}
