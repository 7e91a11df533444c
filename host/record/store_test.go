// SPDX-License-Identifier: Apache-2.0

//go:build linux

package record

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kindred/host/tree"
	"kindred/inventory"
)

func openStore(t *testing.T) (*Store, string) {
	t.Helper()
	root := t.TempDir()
	s, err := OpenStore(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, root
}

func TestStore(t *testing.T) {
	s, root := openStore(t)
	if ids, err := s.List(); err != nil || len(ids) != 0 {
		t.Errorf("an empty store lists %v, %v", ids, err)
	}
	if _, err := s.Device("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no record: %v", err)
	}
	want := Device{
		Ours: true, Boot: "b", Instance: 7, Kind: inventory.VF, Parent: "p", Type: "t-1:2",
		Steps:  []Step{{Do: "bind", Name: "x", Value: "y", Before: "z"}},
		Change: &Change{Op: Stop, PID: 3, Began: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), Made: true},
	}
	for range 2 {
		if err := s.Put("a", want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Device("a")
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	dir := filepath.Join(root, Dir, "devices")
	for name, text := range map[string]string{"a.json.new": "{", "b.json.new": "", "c.json": "{", "other": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ids, err := s.List()
	if diff := cmp.Diff([]string{"a", "b", "c"}, ids); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if _, err := s.Device("c"); err == nil || !strings.Contains(err.Error(), "c.json") {
		t.Errorf("a broken record: %v", err)
	}
	for id, want := range map[string]bool{"a": true, "b": true, "c": false} {
		if got := s.Unfinished(id); got != want {
			t.Errorf("%s is unfinished: %t", id, got)
		}
		if got, err := s.Sweep(id); err != nil || got != want {
			t.Errorf("%s was swept: %t, %v", id, got, err)
		}
	}
	for range 2 {
		if err := s.Delete("a"); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Device("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Delete: %v", err)
	}
}

// TestConfined: links of somebody who may write there lead nowhere else.
func TestConfined(t *testing.T) {
	s, root := openStore(t)
	outside := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "var/lib"), 0o755), os.Symlink(outside, filepath.Join(root, "var/lib/kindred"))); err != nil {
		t.Fatal(err)
	}
	if err := s.Put("a", Device{}); err == nil {
		t.Error("a record was written outside")
	}
	if _, err := s.TryLock("a"); err == nil {
		t.Error("a lock was made outside")
	}
	if entries, _ := os.ReadDir(outside); len(entries) > 0 {
		t.Errorf("outside there is %v", entries)
	}
}

func TestLock(t *testing.T) {
	s, root := openStore(t)
	unlock, err := s.TryLock("a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := OpenStore(root)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.TryLock("a"); !errors.Is(err, ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(ctx, "a"); !errors.Is(err, ErrLocked) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waited for: %v", err)
	}
	unlockB, err := other.TryLock("b")
	if err != nil {
		t.Errorf("another device: %v", err)
	}
	unlockB()
	time.AfterFunc(20*time.Millisecond, unlock)
	unlock, err = other.Lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// TestOf: a record is of the device that was made, not of its name.
func TestOf(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{bootFile: "boot-2\n"} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := tree.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, c := range []struct {
		dir  tree.Dir
		r    Device
		want bool
	}{
		{d, Device{}, true},
		{d, Device{Boot: "boot-2", Instance: 1}, true}, // a copy has no numbers
		{d, Device{Boot: "boot-1"}, false},
		{numbered{d, 5}, Device{Instance: 5}, true},
		{numbered{d, 5}, Device{Instance: 4}, false},
		{numbered{d, 5}, Device{}, true},
	} {
		if got := c.r.Of(c.dir, inventory.Mdev, "a"); got != c.want {
			t.Errorf("%+v: %t", c.r, got)
		}
	}
	inv := card(inventory.Device{ID: "x", Kind: inventory.Mdev})
	s, err := OpenStore(root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for boot, want := range map[string]bool{"boot-1": false, "boot-2": true} {
		if err := s.Put("x", Device{Ours: true, Boot: boot}); err != nil {
			t.Fatal(err)
		}
		inv.Devices[0].Ours = false
		Apply(d, inv, func(name string, err error) { t.Errorf("%s: %v", name, err) })
		if inv.Devices[0].Ours != want {
			t.Errorf("made in %s, the device is ours: %t", boot, inv.Devices[0].Ours)
		}
	}
}

type numbered struct {
	tree.Dir
	n uint64
}

func (n numbered) Inode(string) (uint64, error) { return n.n, nil }

// TestFollowed: on the live machine the directory of the records may be
// elsewhere, also when it is not there yet.
func TestFollowed(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"srv/lib", "var"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(root, "srv/lib"), filepath.Join(root, "var/lib")); err != nil {
		t.Fatal(err)
	}
	if got, want := followed(root+"/var/lib/kindred"), root+"/srv/lib/kindred"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := followed("/"); got != "/" {
		t.Errorf("/ is %q", got)
	}
	if got := dirBelow(root); got != Dir {
		t.Errorf("of a copy of a machine it is %q", got)
	}
}
