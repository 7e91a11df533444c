// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// blocks are what getdents64(2) fills.
var blocks = sync.Pool{New: func() any { b := make([]byte, 16<<10); return &b }}

func (r *root) ReadDir(name string) ([]Entry, error) {
	entries, err := r.list(name)
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	return entries, err
}

// list asks the kernel directly: os.File costs seven system calls more for a
// directory of twenty names, and hosts have a directory per parent.
func (r *root) list(name string) ([]Entry, error) {
	fail := func(err error) ([]Entry, error) {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	fd := r.fd
	if name != "." || !r.sub {
		var err error
		if fd, err = r.open(name, unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
			return fail(err)
		}
		defer r.close(fd, name)
	} else if r.listed {
		if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
			return fail(err)
		}
	} else {
		r.listed = true
	}
	pooled := blocks.Get().(*[]byte)
	defer blocks.Put(pooled)
	block := *pooled
	var entries []Entry
	for {
		n, err := retry(func() (int, error) {
			return r.ask(name, unix.SYS_GETDENTS64, fd, unsafe.Pointer(&block[0]), uintptr(len(block)))
		})
		if err != nil {
			return fail(err)
		}
		if n <= 0 {
			break
		}
		if entries, err = appendEntries(entries, fd, block[:n]); err != nil {
			return fail(err)
		}
	}
	return entries, nil
}

// headLen is where the name starts in a struct linux_dirent64: after d_ino,
// d_off, d_reclen (at 16) and d_type (at 18).
const headLen = 19

// appendEntries adds what a block of getdents64 lists of the directory fd. The
// names of a block share their memory.
func appendEntries(entries []Entry, fd int, block []byte) ([]Entry, error) {
	count := 0
	for rest := block; len(rest) > headLen; count++ {
		rest = rest[min(max(int(binary.NativeEndian.Uint16(rest[16:])), headLen), len(rest)):]
	}
	entries = slices.Grow(entries, count)
	var names strings.Builder
	names.Grow(len(block) - count*headLen)
	for len(block) > headLen {
		length := int(binary.NativeEndian.Uint16(block[16:]))
		if length <= headLen || length > len(block) {
			return nil, unix.EIO // no kernel writes this
		}
		record := block[:length]
		block = block[length:]
		text, _, _ := bytes.Cut(record[headLen:], []byte{0})
		if binary.NativeEndian.Uint64(record) == 0 || string(text) == "." || string(text) == ".." {
			continue
		}
		start := names.Len()
		names.Write(text)
		e := Entry{Name: names.String()[start:]}
		if record[18] == unix.DT_UNKNOWN { // this file system does not say
			var st unix.Stat_t
			switch err := unix.Fstatat(fd, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err {
			case nil:
				e.Mode = typeBits(st.Mode)
			case unix.ENOENT: // gone meanwhile
				continue
			default:
				return nil, err
			}
		} else {
			e.Mode = typeBits(uint32(record[18]) << 12) // IFTODT of <dirent.h>
		}
		entries = append(entries, e)
	}
	return entries, nil
}
