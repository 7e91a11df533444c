// SPDX-License-Identifier: Apache-2.0

// Package tree is the one way Kindred reads files of a machine: below a root,
// never outside it.
//
// The root is "/" on a live host, or a directory that holds a copy of one
// host's /sys, /proc and /etc. Names are relative to the root and have no
// leading slash ("sys/class/mdev_bus"). Symbolic links are followed as if the
// root were "/", so a link in a hostile copy leads nowhere else: openat2(2)
// with RESOLVE_IN_ROOT does that in the kernel.
//
// [Dir] is the seam: a simulated machine implements it with behaviour.
// Attributes of sysfs are read with [Dir.ReadAttr], which does a single
// read(2): sysfs calls the driver's show() once and hands out the whole text
// (Documentation/filesystems/sysfs.rst). Everything else is read to its end
// with [Dir.ReadFile]. Both refuse what is longer than [MaxFile], instead of
// cutting it.
package tree

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"
)

// MaxFile is the longest file that is read, in bytes.
const MaxFile = 1 << 20

var (
	// ErrTooLong is returned for a file longer than MaxFile.
	ErrTooLong = errors.New("longer than 1 MiB")
	// ErrNotText is returned by Text for bytes that are not UTF-8.
	ErrNotText = errors.New("not text (invalid UTF-8)")
)

// Entry is one name in a directory.
type Entry struct {
	Name string
	Mode fs.FileMode // the type bits only
}

// Dir is a directory to read below. Errors are [*fs.PathError] and carry the
// name as it was given.
type Dir interface {
	// ReadAttr reads a sysfs attribute.
	ReadAttr(name string) ([]byte, error)
	// ReadFile reads a file to its end.
	ReadFile(name string) ([]byte, error)
	// ReadDir lists a directory, sorted by name.
	ReadDir(name string) ([]Entry, error)
	// Readlink returns the text of a symbolic link.
	Readlink(name string) (string, error)
	// Mode returns the mode of what name leads to, links followed.
	Mode(name string) (fs.FileMode, error)
	// Sub opens a directory below for many reads. Names in it must lead
	// neither out of it nor through symbolic links. Its own listing,
	// ReadDir("."), is for one goroutine at a time.
	Sub(name string) (Dir, error)
	// Close ends a Dir. The ones opened from it with Sub live on.
	Close() error
}

// Numbered is a Dir whose directories have numbers that are not used again, as
// the inodes of a live machine's sysfs: they tell a device from one that was
// made later under the same name. A copy of a machine has none.
type Numbered interface {
	Inode(name string) (uint64, error)
}

// Text reads an attribute as text without its final newline.
func Text(d Dir, name string) (string, error) {
	if r, ok := d.(interface {
		readText(name string) (string, error)
	}); ok {
		return r.readText(name)
	}
	data, err := d.ReadAttr(name)
	if err != nil {
		return "", err
	}
	return trim(data, name)
}

// FileText reads a file to its end, as text without its final newline.
func FileText(d Dir, name string) (string, error) {
	data, err := d.ReadFile(name)
	if err != nil {
		return "", err
	}
	return trim(data, name)
}

// List is ReadDir in whatever order the file system has, for those who sort by
// something else.
func List(d Dir, name string) ([]Entry, error) {
	if r, ok := d.(interface {
		list(name string) ([]Entry, error)
	}); ok {
		return r.list(name)
	}
	return d.ReadDir(name)
}

func trim(data []byte, name string) (string, error) {
	if !utf8.Valid(data) {
		return "", &fs.PathError{Op: "read", Path: name, Err: ErrNotText}
	}
	return strings.TrimSuffix(string(data), "\n"), nil
}

// Target is where the link at name leads, as a name below the root. The link's
// own directory must be reached without links, as sysfs's class and bus
// directories are.
func Target(d Dir, name string) (string, error) {
	text, err := d.Readlink(name)
	if err != nil {
		return "", err
	}
	return Resolve(path.Dir(name), text), nil
}

// Resolve is where a link with that text in the directory dir leads, as a name
// below the root.
func Resolve(dir, text string) string {
	if path.IsAbs(text) {
		return strings.TrimPrefix(path.Clean(text), "/")
	}
	for {
		rest, up := strings.CutPrefix(text, "../")
		if !up {
			break
		}
		text = rest
		dir = dir[:max(strings.LastIndexByte(dir, '/'), 0)]
	}
	return strings.TrimPrefix(path.Clean("/"+dir+"/"+text), "/")
}
