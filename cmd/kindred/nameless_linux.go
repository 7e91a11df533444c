// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// namelessFile has no name until it is whole (O_TMPFILE).
type namelessFile struct {
	*os.File
	name string
}

// nameless begins a file. Which errors say that the file system cannot is in
// open(2).
func nameless(name string) (pendingFile, error) {
	file, err := os.OpenFile(filepath.Dir(name), os.O_RDWR|unix.O_TMPFILE, 0o600)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EOPNOTSUPP) {
		err = errors.Join(err, errors.ErrUnsupported)
	}
	if err != nil {
		return nil, err
	}
	return &namelessFile{file, name}, nil
}

// Cleanup forgets a file that took no name.
func (f *namelessFile) Cleanup() error { return f.File.Close() }

// CloseAtomicallyReplace gives the file its name. One that is there already
// cannot be replaced by a link: the new file has another name for that moment.
func (f *namelessFile) CloseAtomicallyReplace() error {
	if err := f.Sync(); err != nil {
		return err
	}
	err := f.link(f.name)
	if errors.Is(err, fs.ErrExist) {
		next := filepath.Join(filepath.Dir(f.name), "."+filepath.Base(f.name)+"."+rand.Text()[:8])
		if err = f.link(next); err == nil {
			if err = os.Rename(next, f.name); err != nil {
				err = errors.Join(err, os.Remove(next))
			}
		}
	}
	return errors.Join(err, f.File.Close())
}

func (f *namelessFile) link(name string) error {
	err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &fs.PathError{Op: "link", Path: name, Err: err}
	}
	return nil
}
