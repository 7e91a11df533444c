// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tree

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func openWith(t *testing.T, files map[string]string) (Machine, string) {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m, err := OpenMachine(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m, root
}

// TestWriteAttr: the whole text, nothing outside, nothing made that was not
// there, and the errno of the kernel.
func TestWriteAttr(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("safe"), 0o644); err != nil {
		t.Fatal(err)
	}
	m, root := openWith(t, map[string]string{"sys/a/b": "a longer text", "sys/c": ""})
	for name, target := range map[string]string{"sys/link": "a/b", "sys/out": outside, "sys/up": "../../../../../../../" + outside} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(root, "sys/fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	write := map[string]func(name, text string) error{
		"WriteAttr":  m.WriteAttr,
		"WriteApart": func(name, text string) error { return m.WriteApart(t.Context(), name, text) },
	}
	for how, write := range write {
		for _, name := range []string{"sys/a/b", "sys/link"} {
			if err := write(name, how); err != nil {
				t.Errorf("%s %s: %v", how, name, err)
			}
			if data, _ := os.ReadFile(filepath.Join(root, "sys/a/b")); string(data) != how {
				t.Errorf("%s %s left %q", how, name, data)
			}
		}
		for name, want := range map[string]error{"sys/none": fs.ErrNotExist, "sys/a": unix.EISDIR, "sys/out": fs.ErrNotExist, "sys/up": fs.ErrNotExist, "sys/fifo": unix.ENXIO} {
			err := write(name, "x")
			var at *fs.PathError
			if !errors.Is(err, want) || !errors.As(err, &at) || at.Path != name {
				t.Errorf("%s %s: %v, want %v with the name", how, name, err, want)
			}
		}
	}
	if data, _ := os.ReadFile(outside); string(data) != "safe" {
		t.Errorf("what is outside became %q", data)
	}
}

// TestNoDoor: what was opened to be read cannot be written.
func TestNoDoor(t *testing.T) {
	m, root := openWith(t, map[string]string{"a/b": ""})
	d, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	sub, err := m.Sub("a")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for what, d := range map[string]Dir{"Open": d, "Sub": sub} {
		if _, can := d.(Machine); can {
			t.Errorf("what %s returns can be written", what)
		}
	}
}

// TestWriteApart: the process that writes answers with the kernel's errno, and
// is left behind when the kernel does not answer. A pipe that is full stands
// for an attribute whose driver waits.
func TestWriteApart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "attr")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := writeApart(t.Context(), fd, "attr", "text"); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(file); string(data) != "text" {
		t.Errorf("the process wrote %q", data)
	}
	readOnly, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(readOnly)
	if err := writeApart(t.Context(), readOnly, "attr", "text"); !errors.Is(err, unix.EBADF) {
		t.Errorf("a descriptor that cannot be written: %v", err)
	}

	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	if err := unix.SetNonblock(pipe[1], true); err != nil {
		t.Fatal(err)
	}
	for err = nil; err == nil; {
		_, err = unix.Write(pipe[1], make([]byte, 4096))
	}
	if err := unix.SetNonblock(pipe[1], false); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = writeApart(ctx, pipe[1], "attr", "late")
	unix.Close(pipe[1])
	if !errors.Is(err, ErrHeldUp) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a write that is held up: %v", err)
	}
	// It goes on, and the text arrives when there is room.
	var all []byte
	for block := make([]byte, 4096); ; {
		n, err := unix.Read(pipe[0], block)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break // the writer ended: it alone held the other end
		}
		all = append(all, block[:n]...)
	}
	if got := string(all[len(all)-4:]); got != "late" {
		t.Errorf("the last that came is %q", got)
	}
}

// TestLiveRoot: the live machine is that by any of its names: only there are
// devices told apart by number, and writes made apart.
func TestLiveRoot(t *testing.T) {
	for _, name := range []string{"/", "//", "/.", "/proc/.."} {
		d, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if _, err := d.(Numbered).Inode("proc"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
