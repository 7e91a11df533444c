// SPDX-License-Identifier: Apache-2.0

//go:build linux

package definition_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"kindred/definition"
	"kindred/host/tree"
)

const (
	parent = "0000:41:00.0"
	u1     = "11111111-0000-4000-8000-00000000000a"
	u2     = "22222222-0000-4000-8000-00000000000b"
)

func open(t *testing.T, root string) *definition.Store {
	t.Helper()
	s, err := definition.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, root, name, text string) {
	t.Helper()
	file := filepath.Join(root, definition.Dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o640)); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, root, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, definition.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// names are all files below the parents' directories.
func names(t *testing.T, root string) string {
	t.Helper()
	var list []string
	for _, pattern := range []string{"*", ".*"} {
		found, err := filepath.Glob(filepath.Join(root, definition.Dir, "*", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range found {
			list = append(list, filepath.Base(name))
		}
	}
	return strings.Join(list, " ")
}

func quiet(string, error) {}

// TestUnknownKeys: what mdevctl would drop stays, behind what it knows, in the
// order and the form in which it was.
func TestUnknownKeys(t *testing.T) {
	root := t.TempDir()
	put(t, root, parent+"/"+u1, `{"z": {"b":[1.50, null,{}],"a":"\u0041"}, "attrs": [{"x":"1"}], "mdev_type":"t-1", "y": true, "start":"auto", "z2": [] }`)
	s := open(t, root)
	err := s.Modify(t.Context(), parent, u1, func(d *definition.Definition) error {
		d.Auto = false
		return d.Insert(0, definition.Attribute{Name: "first", Value: "0"})
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "mdev_type": "t-1",
  "start": "manual",
  "attrs": [
    {
      "first": "0"
    },
    {
      "x": "1"
    }
  ],
  "z": {
    "b": [
      1.50,
      null,
      {}
    ],
    "a": "\u0041"
  },
  "y": true,
  "z2": []
}`
	if diff := cmp.Diff(want, get(t, root, parent+"/"+u1)); diff != "" {
		t.Errorf("the file (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(filepath.Join(root, definition.Dir, parent, u1)); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("its mode is %v, %v; it was 0640", info.Mode(), err)
	}
}

// TestReplace: a file's own keys are added to those that are there.
func TestReplace(t *testing.T) {
	parse := func(text string) definition.Definition {
		d, err := definition.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d, other := parse(`{"mdev_type":"a","start":"auto","k":1,"l":2}`), parse(`{"mdev_type":"b","start":"manual","l":3,"m":4}`)
	before := d
	d.Replace(&other)
	if got, want := string(d.Encode()), "{\n  \"mdev_type\": \"b\",\n  \"start\": \"manual\",\n  \"attrs\": [],\n  \"k\": 1,\n  \"l\": 3,\n  \"m\": 4\n}"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if !strings.Contains(string(before.Encode()), `"l": 2`) {
		t.Errorf("replacing one changed its copy: %s", before.Encode())
	}
}

// TestRoundTrip: what is written is read as it was.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := definition.Definition{Type: rapid.String().Draw(t, "type"), Auto: rapid.Bool().Draw(t, "auto")}
		for range rapid.IntRange(0, 4).Draw(t, "attributes") {
			d.Attributes = append(d.Attributes, definition.Attribute{Name: rapid.String().Draw(t, "name"), Value: rapid.String().Draw(t, "value")})
		}
		for _, data := range [][]byte{d.Encode(), d.Compact()} {
			got, err := definition.Parse(data)
			if err != nil || got.Type != d.Type || got.Auto != d.Auto || fmt.Sprint(got.Attributes) != fmt.Sprint(d.Attributes) {
				t.Fatalf("%s is read as %+v, %v", data, got, err)
			}
			if again := got.Encode(); string(again) != string(d.Encode()) {
				t.Fatalf("%s is written as %s", data, again)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		`{"mdev_type":"t-1","start":"auto","attrs":[{"a":"b"}],"x":{"y":[1]}}`, `{}`, `[]`, `{"mdev_type":null}`, `{"mdev_type":"\ud800","start":"auto"}`, "{", "", `{"a":1}{`, "\xff",
		`{"mdev_type":"t","mdev_type":"u","start":null,"start":"manual","x":1,"x":2}`, `{"mdev_type":"t","start":1,"attrs":null}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := definition.Parse(data)
		if err != nil {
			return
		}
		again, err := definition.Parse(d.Encode())
		if err != nil || string(again.Encode()) != string(d.Encode()) {
			t.Errorf("%q is written as %q and read as %q, %v", data, d.Encode(), again.Encode(), err)
		}
	})
}

func TestParseUUID(t *testing.T) {
	for text, want := range map[string]string{
		u1: u1, strings.ToUpper(u1): u1, "{" + u1 + "}": u1, "urn:uuid:" + u1: u1, strings.ReplaceAll(u1, "-", ""): u1,
		"": "", u1[1:]: "", u1 + "a": "", "{" + u1: "", "urn:uuid:" + strings.ReplaceAll(u1, "-", ""): "", strings.Replace(u1, "1", "g", 1): "",
		"1111-11110000-4000-8000-00000000000a": "", "{" + strings.ReplaceAll(u1, "-", "") + "}": "", "111111110000400080000000000000-a": "",
	} {
		got, err := definition.ParseUUID(text)
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, definition.ErrNoUUID) {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

// TestStore: define, modify and undefine, and what they refuse.
func TestStore(t *testing.T) {
	root := t.TempDir()
	s, ctx := open(t, root), t.Context()
	d := definition.Definition{Parent: parent, UUID: u1, Type: "t-1"}
	keep := func(*definition.Definition) error { return nil }
	for _, step := range []struct {
		name string
		err  error
		want error
	}{
		{"modify none", s.Modify(ctx, parent, u1, keep), definition.ErrNotDefined},
		{"undefine none", s.Undefine(ctx, parent, u1), definition.ErrNotDefined},
		{"define", s.Define(ctx, &d), nil},
		{"define again", s.Define(ctx, &d), definition.ErrDefined},
		{"undefine another's", s.Undefine(ctx, "other", u1), definition.ErrNotDefined},
		{"modify", s.Modify(ctx, parent, u1, keep), nil},
	} {
		if !errors.Is(step.err, step.want) || step.want == nil && step.err != nil {
			t.Errorf("%s: %v, want %v", step.name, step.err, step.want)
		}
	}
	for _, bad := range []definition.Definition{
		{Parent: "../up", UUID: u1, Type: "t-1"}, {Parent: "..", UUID: u1, Type: "t-1"}, {Parent: "", UUID: u1, Type: "t-1"}, {Parent: "scripts.d", UUID: u1, Type: "t-1"},
		{Parent: "new", UUID: strings.ToUpper(u1), Type: "t-1"}, {Parent: "new", UUID: "../" + u1, Type: "t-1"}, {Parent: "new", UUID: u1},
	} {
		if err := s.Define(ctx, &bad); err == nil {
			t.Errorf("%+v was defined", bad)
		}
	}
	if _, err := os.Stat(filepath.Join(root, definition.Dir, "new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory was left behind: %v", err)
	}
	boom := errors.New("boom")
	if err := s.Modify(ctx, parent, u1, func(d *definition.Definition) error { d.Type = "x"; return boom }); !errors.Is(err, boom) || !strings.Contains(get(t, root, parent+"/"+u1), "t-1") {
		t.Errorf("a change that failed: %v, %s", err, get(t, root, parent+"/"+u1))
	}
	put(t, root, parent+"/"+u2, "{")
	if err := s.Modify(ctx, parent, u2, keep); err == nil || errors.Is(err, definition.ErrNotDefined) {
		t.Errorf("modify what cannot be read: %v", err)
	}
	if err := s.Define(ctx, &definition.Definition{Parent: parent, UUID: u2, Type: "t-1"}); err == nil || get(t, root, parent+"/"+u2) != "{" {
		t.Errorf("define over what cannot be read: %v", err)
	}
	if err := errors.Join(s.Undefine(ctx, parent, u2), s.Undefine(ctx, parent, u1)); err != nil || names(t, root) != "" {
		t.Errorf("undefine: %v, left %s", err, names(t, root))
	}
}

// TestConfined: a link leads nothing out of the root.
func TestConfined(t *testing.T) {
	outside := t.TempDir()
	put(t, outside, parent+"/"+u1, `{"mdev_type":"t-1","start":"auto"}`)
	for name, link := range map[string]string{"etc": filepath.Join(outside, "etc"), definition.Dir: filepath.Join(outside, definition.Dir), definition.Dir + "/" + parent: filepath.Join(outside, definition.Dir, parent)} {
		root := t.TempDir()
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755), os.Symlink(link, filepath.Join(root, name))); err != nil {
			t.Fatal(err)
		}
		s := open(t, root)
		if list := s.Read(definition.Filter{}, quiet); len(list) > 0 {
			t.Errorf("a link at %s: %v is read", name, list)
		}
		if err := s.Define(t.Context(), &definition.Definition{Parent: parent, UUID: u2, Type: "t-1"}); err == nil {
			t.Errorf("a link at %s: written outside", name)
		}
		if err := s.Undefine(t.Context(), parent, u1); err == nil {
			t.Errorf("a link at %s: removed outside", name)
		}
	}
	if names(t, outside) != u1 {
		t.Errorf("outside there are %s", names(t, outside))
	}
}

// TestWriters: of many writers none is lost, and what was left by one that was
// killed is swept.
func TestWriters(t *testing.T) {
	root := t.TempDir()
	put(t, root, parent+"/"+u1, `{"mdev_type":"t-1","start":"auto"}`)
	put(t, root, parent+"/."+u1+"123456", `{"mdev_type":"t-`)
	var wg sync.WaitGroup
	const writers, rounds = 4, 10
	for w := range writers {
		s := open(t, root)
		wg.Go(func() {
			for i := range rounds {
				err := s.Modify(t.Context(), parent, u1, func(d *definition.Definition) error {
					d.Attributes = append(d.Attributes, definition.Attribute{Name: fmt.Sprint(w), Value: fmt.Sprint(i)})
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				if list := s.Read(definition.Filter{}, func(name string, err error) { t.Error(name, err) }); len(list) != 1 {
					t.Errorf("%d definitions are read while they are written", len(list))
				}
			}
		})
	}
	wg.Wait()
	s := open(t, root)
	list := s.Read(definition.Filter{Parent: parent, UUID: u1}, quiet)
	if len(list) != 1 || len(list[0].Attributes) != writers*rounds {
		t.Errorf("%d attributes of %d are left", len(list[0].Attributes), writers*rounds)
	}
	if names(t, root) != u1 {
		t.Errorf("there are %s", names(t, root))
	}
}

// TestLock: a writer waits for another process, as long as it is let.
func TestLock(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	d := definition.Definition{Parent: parent, UUID: u1, Type: "t-1"}
	if err := s.Define(t.Context(), &d); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(root, "run/kindred/definitions.lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Undefine(ctx, parent, u1); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "definitions.lock") {
		t.Errorf("with the lock taken: %v", err)
	}
	given := make(chan error)
	time.AfterFunc(100*time.Millisecond, func() { given <- unix.Flock(int(lock.Fd()), unix.LOCK_UN) })
	if err := errors.Join(s.Undefine(t.Context(), parent, u1), <-given); err != nil {
		t.Errorf("with the lock given back: %v", err)
	}
}

// TestLockKept: a writer that is stopped does not keep others waiting for ever.
func TestLockKept(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	d := definition.Definition{Parent: parent, UUID: u1, Type: "t-1"}
	if err := s.Define(t.Context(), &d); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(root, "run/kindred/definitions.lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		if err := s.Undefine(t.Context(), parent, u1); err == nil || !strings.Contains(err.Error(), "fuser -v /run/kindred/definitions.lock") {
			t.Errorf("%v", err)
		}
	})
}

// TestWarnings: each file that is passed over is named.
func TestWarnings(t *testing.T) {
	root := t.TempDir()
	put(t, root, parent+"/"+u1, `{"mdev_type":"t-1","start":"auto"}`)
	put(t, root, parent+"/"+u2, `{"mdev_type":"t-1"}`)
	put(t, root, parent+"/notes", "")
	put(t, root, "scripts.d/callouts", "")
	put(t, root, "loose", "")
	d, err := tree.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	warned := map[string]string{}
	list := definition.Read(d, definition.Filter{}, func(name string, err error) { warned[name] = err.Error() })
	want := map[string]string{
		"etc/mdevctl.d/" + parent + "/" + u2: `"start" is missing`, "etc/mdevctl.d/" + parent + "/notes": "it is no definition, its name is not a UUID",
	}
	if len(list) != 1 || list[0].UUID != u1 || !list[0].Auto || list[0].Start() != "auto" {
		t.Errorf("%+v", list)
	}
	if diff := cmp.Diff(want, warned); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}
