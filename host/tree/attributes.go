// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"errors"
	"io/fs"
	"path"

	"kindred/inventory"
)

// Warn is told what could not be read or believed. It must be safe for
// concurrent use.
type Warn func(name string, err error)

// Attributes reads every readable regular file of the directory dir, and of
// the attribute groups directly below it as "<group>/<file>", but for the
// names that skip reports. The result is complete when all of it was listed.
func Attributes(d Dir, dir string, skip func(name string) bool, warn Warn) inventory.Attributes {
	attrs := inventory.Attributes{Complete: true}
	readGroup(d, dir, "", skip, warn, &attrs)
	return attrs
}

func readGroup(d Dir, dir, group string, skip func(string) bool, warn Warn, attrs *inventory.Attributes) {
	entries, err := d.ReadDir(path.Join(dir, group))
	if err != nil {
		warn(path.Join(dir, group), err)
		attrs.Complete = false
		return
	}
	for _, e := range entries {
		name := path.Join(group, e.Name)
		file := path.Join(dir, name)
		switch {
		case group == "" && skip(e.Name):
		case e.Mode.IsDir() && group == "":
			readGroup(d, dir, e.Name, skip, warn, attrs)
		case e.Mode.IsRegular():
			mode, err := d.Mode(file)
			if err == nil && mode.Perm()&0o444 == 0 {
				continue // write-only: nothing to read, by design
			}
			text, err := Text(d, file)
			if err != nil {
				warn(file, err)
				attrs.Unread = append(attrs.Unread, name)
				continue
			}
			attrs.Set(name, text)
		}
	}
}

// ReadValue reads one sysfs attribute into a three-state value: what is not
// there is absent, what cannot be read is not observed and warned of.
func ReadValue(d Dir, name string, warn Warn) inventory.Value {
	text, err := Text(d, name)
	switch {
	case err == nil:
		return inventory.Of(text)
	case errors.Is(err, fs.ErrNotExist):
		return inventory.None()
	}
	warn(name, err)
	return inventory.Value{}
}

// LinkBase is the last element of where a link points, absent without a link.
func LinkBase(d Dir, name string, warn Warn) inventory.Value {
	text, err := d.Readlink(name)
	switch {
	case err == nil:
		return inventory.Of(path.Base(text))
	case errors.Is(err, fs.ErrNotExist):
		return inventory.None()
	}
	warn(name, err)
	return inventory.Value{}
}
