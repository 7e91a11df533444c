// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tree_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kindred/host/tree"
	"kindred/inventory"
)

func open(t *testing.T, files map[string]string) (tree.Dir, string) {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d, err := tree.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, root
}

// TestConfined: whatever a name or link says, nothing outside is reached.
func TestConfined(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	d, root := open(t, map[string]string{
		"a/file":     "inside",
		"a/abs":      "-> " + outside,
		"a/up":       "-> ../../../../../../../../" + outside,
		"a/dir":      "-> ../../../../../../" + filepath.Dir(outside),
		"a/ok":       "-> ../a/file",
		"a/rootlink": "-> /a/file",
	})
	for _, name := range []string{outside, "../" + outside, "a/../../../../../../../" + outside, "a/abs", "a/up", "a/dir/outside", "a/../.." + outside} {
		if data, err := d.ReadFile(name); err == nil {
			t.Errorf("%s gives %q", name, data)
		}
		if text, err := d.Readlink(name + "/x"); err == nil {
			t.Errorf("the link at %s/x gives %q", name, text)
		}
	}
	for _, name := range []string{"a/ok", "a/rootlink", "/a/file", "../a/file"} {
		if data, err := d.ReadFile(name); err != nil || string(data) != "inside" {
			t.Errorf("%s gives %q, %v; want what is inside", name, data, err)
		}
	}
	sub, err := d.Sub("a")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for _, name := range []string{"../a/file", "ok", "/a/file", root + "/a/file", "dir/outside"} {
		if data, err := sub.ReadFile(name); err == nil {
			t.Errorf("below a, %s gives %q: names in a Sub lead neither out nor through links", name, data)
		}
	}
	if text, err := sub.Readlink("ok"); err != nil || text != "../a/file" {
		t.Errorf("the link's text is %q, %v", text, err)
	}
}

func TestLengths(t *testing.T) {
	long := strings.Repeat("x", 70000)
	d, _ := open(t, map[string]string{"empty": "", "page": long[:4096], "more": long[:4097], "long": long, "huge": strings.Repeat(long, 16)})
	for name, want := range map[string]int{"empty": 0, "page": 4096, "more": 4097, "long": 70000} {
		for method, read := range map[string]func(string) ([]byte, error){"attribute": d.ReadAttr, "file": d.ReadFile} {
			if data, err := read(name); err != nil || len(data) != want {
				t.Errorf("%s as %s: %d bytes, %v; want %d", name, method, len(data), err, want)
			}
		}
	}
	if _, err := d.ReadFile("huge"); !errors.Is(err, tree.ErrTooLong) {
		t.Errorf("more than 1 MiB: %v", err)
	}
	if _, err := d.ReadAttr("."); err == nil {
		t.Error("a directory was read as an attribute")
	}
	if _, err := d.ReadDir("page"); err == nil {
		t.Error("a file was listed as a directory")
	}
	if _, err := d.ReadFile("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestTarget(t *testing.T) {
	d, _ := open(t, map[string]string{
		"sys/class/c/p": "-> ../../devices/x/p", "sys/class/c/abs": "-> /devices/y", "sys/class/c/out": "-> ../../../../../../z", "sys/devices/x/p/f": "",
	})
	for name, want := range map[string]string{"sys/class/c/p": "sys/devices/x/p", "sys/class/c/abs": "devices/y", "sys/class/c/out": "z"} {
		if got, err := tree.Target(d, name); err != nil || got != want {
			t.Errorf("%s leads to %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestAttributes(t *testing.T) {
	d, root := open(t, map[string]string{
		"dev/plain": "one\n", "dev/lines": "a\nb\n", "dev/vendor/deep": "two", "dev/vendor/below/deeper": "no", "dev/skip": "x", "dev/binary": "\xff", "dev/link": "-> plain",
	})
	if err := os.WriteFile(filepath.Join(root, "dev/create"), nil, 0o200); err != nil {
		t.Fatal(err)
	}
	var warned []string
	got := tree.Attributes(d, "dev", func(name string) bool { return name == "skip" }, func(name string, err error) { warned = append(warned, name) })
	if fmt.Sprint(got.Values) != fmt.Sprint(map[string]inventory.Value{"plain": inventory.Of("one"), "lines": inventory.Of("a\nb"), "vendor/deep": inventory.Of("two")}) {
		t.Errorf("values %v", got.Values)
	}
	if fmt.Sprint(got.Unread, warned, got.Complete) != "[binary] [dev/binary] true" {
		t.Errorf("unread %v, warned of %v, complete %v", got.Unread, warned, got.Complete)
	}
	if v := got.Get("binary"); v.State() != inventory.NotObserved {
		t.Errorf("binary is %s", v)
	}
	if v := got.Get("nothing"); v.State() != inventory.Absent {
		t.Errorf("nothing is %s", v)
	}
	if gone := tree.Attributes(d, "none", func(string) bool { return false }, func(string, error) {}); gone.Complete {
		t.Error("a directory that is not there was listed completely")
	}
}
