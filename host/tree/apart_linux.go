// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A write apart is done by this same program, started anew under another name:
// every program that can write so has the writer in it, also where no shell
// and no other file of the program is at hand.
const apartName = "kindred: writes apart"

// The descriptors that the writer gets: the attribute, and the end of a pipe
// for its answer.
const (
	apartAttr   = 3
	apartAnswer = 4
)

// init is the writer's entry. It is here and not in main so that no program
// that links this package (a test, too) can forget it and run itself instead.
func init() {
	if len(os.Args) == 2 && os.Args[0] == apartName {
		os.Exit(apart(os.Args[1]))
	}
}

// apart writes the text and answers with the errno, four bytes. Nobody may be
// left to read it.
func apart(text string) int {
	// What ps shows, and proc's comm; otherwise it would be "exe".
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&[]byte("kindred-apart\x00")[0])), 0, 0, 0)
	var errno unix.Errno
	err := writeAttr(apartAttr, "", text)
	if err != nil && !errors.As(err, &errno) {
		errno = unix.EIO // a short write
	}
	answer := binary.NativeEndian.AppendUint32(nil, uint32(errno))
	if _, err := unix.Write(apartAnswer, answer); err != nil {
		return 1
	}
	return 0
}

// writeApart starts the writer and waits for its answer until ctx ends. The
// writer has a session of its own, so that the end of a terminal or a service
// does not reach it in the moment before the kernel takes over, and no standard
// streams: whoever reads the caller's output must not wait for it.
func writeApart(ctx context.Context, fd int, name, text string) error {
	fail := func(err error) error { return &fs.PathError{Op: "write", Path: name, Err: err} }
	attr, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	file := os.NewFile(uintptr(attr), name)
	defer file.Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	cmd := exec.Cmd{
		Path: "/proc/self/exe", Args: []string{apartName, text}, Dir: "/", Env: []string{},
		ExtraFiles:  []*os.File{file, writer},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err = cmd.Start()
	writer.Close()
	if err != nil {
		reader.Close()
		return fail(fmt.Errorf("start a process for it: %v", err)) // its errno is not the attribute's
	}
	answered := make(chan error, 1)
	go func() { // ends with the writer, and leaves no zombie
		defer reader.Close()
		var answer [4]byte
		_, err := io.ReadFull(reader, answer[:])
		if errno := unix.Errno(binary.NativeEndian.Uint32(answer[:])); err == nil && errno != 0 {
			err = errno
		}
		answered <- err
		_ = cmd.Wait()
	}()
	select {
	case err = <-answered:
	case <-ctx.Done():
		select {
		case err = <-answered: // and it was this process that was held up
		default:
			err = fmt.Errorf("%w (process %d): %w", ErrHeldUp, cmd.Process.Pid, context.Cause(ctx))
		}
	}
	if err != nil {
		return fail(err)
	}
	return nil
}
