// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// machine is a Machine on real files.
type machine struct{ *root }

// OpenMachine opens the root directory dir for reading and writing attributes:
// "/" for the live machine. Below any other directory attributes are plain
// files, whose text a write replaces.
func OpenMachine(dir string) (Machine, error) {
	d, err := Open(dir)
	if err != nil {
		return nil, err
	}
	return machine{d.(*root)}, nil
}

func (m machine) WriteAttr(name, text string) error {
	fd, err := m.openAttr(name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return writeAttr(fd, name, text)
}

func (m machine) WriteApart(ctx context.Context, name, text string) error {
	fd, err := m.openAttr(name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !m.live {
		return writeAttr(fd, name, text)
	}
	return writeApart(ctx, fd, name, text)
}

// openAttr opens an attribute to be written. O_NONBLOCK and the look at the
// type are for what a hostile copy of a machine may have in its place.
func (m machine) openAttr(name string) (int, error) {
	flags := unix.O_WRONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	if !m.live {
		flags |= unix.O_TRUNC // a file keeps what the new text is too short for
	}
	fd, err := m.open(name, flags)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = fmt.Errorf("not a regular file: %w", unix.EINVAL)
	}
	if err != nil {
		unix.Close(fd)
		return -1, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}

// writeAttr is the one write(2). EAGAIN is the driver's answer here (a probe
// that was deferred), not the file's, and is not repeated.
func writeAttr(fd int, name, text string) error {
	n, err := unix.Write(fd, []byte(text))
	for err == unix.EINTR {
		n, err = unix.Write(fd, []byte(text))
	}
	if err == nil && n < len(text) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}
