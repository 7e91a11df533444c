// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// root is a Dir on real files, held by a descriptor.
type root struct {
	fd      int
	sub     bool   // opened by Sub, and can be listed itself
	listed  bool   // was listed: the next listing has to start again
	resolve uint64 // openat2's RESOLVE_ flags
	// live is true for "/": nothing is outside, so links need no guard and
	// readlinkat(2) can take a whole path.
	live bool
	own  bool // opened by Sub, in sysfs itself: see inSysfs
}

// inSysfs reports whether a file of the live machine is one of sysfs's own, of the parts
// that Kindred lists: other file systems are mounted elsewhere below /sys.
func (r *root) inSysfs(name string) bool {
	if r.sub {
		return r.own
	}
	inside, ok := strings.CutPrefix(name, "sys/")
	part, _, _ := strings.Cut(inside, "/")
	return r.live && ok && (part == "bus" || part == "class" || part == "devices" || part == "module")
}

// ask makes a system call about a file of that name. To find, open, list and close what
// is sysfs's own the kernel waits for no driver (fs/kernfs/dir.c and file.c: only reading
// and writing call one), so Go's runtime need not be told that a thread may be away: to
// take its processor from it and to give it back was a sixth of the time in which
// devices are listed.
func (r *root) ask(name string, trap uintptr, fd int, p unsafe.Pointer, n uintptr) (int, error) {
	var got uintptr
	var errno unix.Errno
	if r.inSysfs(name) {
		got, _, errno = unix.RawSyscall6(trap, uintptr(fd), uintptr(p), n, 0, 0, 0)
	} else {
		got, _, errno = unix.Syscall6(trap, uintptr(fd), uintptr(p), n, 0, 0, 0)
	}
	if errno != 0 {
		return -1, errno
	}
	return int(got), nil
}

// close closes what was opened by a name.
func (r *root) close(fd int, name string) error {
	_, err := r.ask(name, unix.SYS_CLOSE, fd, nil, 0)
	return err
}

// Open opens the root directory dir.
func Open(dir string) (Dir, error) {
	dir = filepath.Clean(dir) // "//" is the live machine, too
	fd, err := retry(func() (int, error) {
		return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	r := &root{fd: fd, resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS, live: dir == "/"}
	// Fail here, once and clearly, where the kernel is older than openat2.
	if probe, err := r.open(".", unix.O_PATH); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.ENOSYS) {
			err = fmt.Errorf("openat2(2) is missing: Kindred needs Linux 5.6 or newer: %w", err)
		}
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	} else {
		unix.Close(probe)
	}
	return r, nil
}

func (r *root) open(name string, flags int) (int, error) {
	if r.live { // nothing is outside: openat(2) does, and takes less time
		return retry(func() (int, error) { return r.openat(name, flags) })
	}
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: r.resolve}
	return retry(func() (int, error) { return unix.Openat2(r.fd, name, &how) })
}

func (r *root) Sub(name string) (Dir, error) {
	fd, err := r.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &root{fd: fd, sub: true, resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS, live: r.live, own: r.inSysfs(name)}, nil
}

// openat is openat(2) without the garbage that a Go string's copy for the
// kernel becomes: a listing opens thousands of short names.
func (r *root) openat(name string, flags int) (int, error) {
	var buf [256]byte
	if !terminate(&buf, name) {
		return unix.Openat(r.fd, name, flags|unix.O_CLOEXEC, 0)
	}
	return r.ask(name, unix.SYS_OPENAT, r.fd, unsafe.Pointer(&buf[0]), uintptr(flags|unix.O_CLOEXEC))
}

// readlinkat is readlinkat(2), likewise; it has one pointer more than ask passes on.
func (r *root) readlinkat(name string, text []byte) (int, error) {
	var buf [256]byte
	if !terminate(&buf, name) {
		return unix.Readlinkat(r.fd, name, text)
	}
	var n uintptr
	var errno unix.Errno
	if r.inSysfs(name) {
		n, _, errno = unix.RawSyscall6(unix.SYS_READLINKAT, uintptr(r.fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)), 0, 0)
	} else {
		n, _, errno = unix.Syscall6(unix.SYS_READLINKAT, uintptr(r.fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)), 0, 0)
	}
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// terminate copies a name as the kernel wants it, if it fits and can be one.
func terminate(buf *[256]byte, name string) bool {
	if len(name) >= len(buf) || strings.IndexByte(name, 0) >= 0 {
		return false
	}
	buf[copy(buf[:], name)] = 0
	return true
}

func (r *root) Close() error { return r.close(r.fd, ".") }

// buffers hold one page and a byte: a sysfs attribute is at most a page, so a
// read that fills the buffer is not one.
var buffers = sync.Pool{New: func() any { b := make([]byte, 4097); return &b }}

func (r *root) ReadAttr(name string) (data []byte, err error) {
	err = r.read(name, true, func(b []byte) error { data = bytes.Clone(b); return nil })
	return data, err
}

func (r *root) ReadFile(name string) (data []byte, err error) {
	err = r.read(name, false, func(b []byte) error { data = bytes.Clone(b); return nil })
	return data, err
}

// readText is ReadAttr for Text, without the copy in between.
func (r *root) readText(name string) (text string, err error) {
	err = r.read(name, true, func(b []byte) error { text, err = trim(b, name); return err })
	return text, err
}

// read gives use the content, in a buffer that is used again afterwards.
func (r *root) read(name string, attr bool, use func([]byte) error) error {
	fail := func(err error) error { return &fs.PathError{Op: "read", Path: name, Err: err} }
	// O_NONBLOCK: a FIFO in a hostile tree must not hang the reader.
	fd, err := r.open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return fail(err)
	}
	defer r.close(fd, name)
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	page := *pooled
	n, err := retry(func() (int, error) { return unix.Read(fd, page) })
	if err != nil {
		return fail(err)
	}
	if attr && n < len(page) {
		return use(page[:n])
	}
	data := bytes.Clone(page[:n])
	for n > 0 {
		if len(data) > MaxFile {
			return fail(ErrTooLong)
		}
		if n, err = retry(func() (int, error) { return unix.Read(fd, page) }); err != nil {
			return fail(err)
		}
		data = append(data, page[:n]...)
	}
	return use(data)
}

func (r *root) Readlink(name string) (string, error) {
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	buf := *pooled
	var n int
	var err error
	// A name without a slash has no link on its way that could lead out.
	if r.live || !strings.Contains(name, "/") {
		n, err = r.readlinkat(name, buf)
	} else {
		var fd int
		if fd, err = r.open(name, unix.O_PATH|unix.O_NOFOLLOW); err == nil {
			n, err = unix.Readlinkat(fd, "", buf)
			unix.Close(fd)
		}
	}
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(buf[:n]), nil
}

func (r *root) Mode(name string) (fs.FileMode, error) {
	fd, err := r.open(name, unix.O_PATH)
	if err != nil {
		return 0, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstatat(fd, "", &st, unix.AT_EMPTY_PATH); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return fs.FileMode(st.Mode&0o777) | typeBits(st.Mode), nil
}

// Inode makes the live machine [Numbered].
func (r *root) Inode(name string) (uint64, error) {
	if !r.live {
		return 0, &fs.PathError{Op: "stat", Path: name, Err: errors.ErrUnsupported}
	}
	fd, err := r.open(name, unix.O_PATH)
	if err != nil {
		return 0, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstatat(fd, "", &st, unix.AT_EMPTY_PATH); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return st.Ino, nil
}

// typeBits is the type of a file from its st_mode.
func typeBits(mode uint32) fs.FileMode {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return fs.ModeDir
	case unix.S_IFLNK:
		return fs.ModeSymlink
	case unix.S_IFREG:
		return 0
	}
	return fs.ModeIrregular
}

// retry repeats a call that a signal interrupted, and openat2's EAGAIN, which
// says that a rename raced with the resolution. The repeats are bounded.
func retry(call func() (int, error)) (int, error) {
	for range 64 {
		n, err := call()
		if err != unix.EINTR && err != unix.EAGAIN {
			return n, err
		}
		if err == unix.EAGAIN && n > 0 {
			return n, nil
		}
	}
	return 0, unix.EAGAIN
}
