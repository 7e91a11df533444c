// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command kill runs a program and kills it, with SIGKILL, before the n-th
// system call by which it would change a file: what is written in several
// steps is tried at each of them.
//
//	kill [-children] N PROGRAM ARGUMENTS...
//
// Calls are counted as the program makes them, in all of its threads and
// children, and the whole family is killed, as a service's is. With N 0 it
// lives, and the calls are printed on standard error. With -children only the
// calls of its children are counted, and only the program itself is killed: the
// child goes on to its end.
//
// Exit code: 0 it was killed, 3 it ended before.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	args := os.Args[1:]
	children := len(args) > 0 && args[0] == "-children"
	if children {
		args = args[1:]
	}
	if len(args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: kill [-children] N PROGRAM ARGUMENTS...")
		os.Exit(2)
	}
	n, err := strconv.Atoi(args[0])
	if err == nil {
		var killed bool
		if killed, err = run(n, children, args[1:]); err == nil {
			if !killed {
				os.Exit(3)
			}
			return
		}
	}
	fmt.Fprintln(os.Stderr, "kill:", err)
	os.Exit(1)
}

// syscallInfo is struct ptrace_syscall_info of linux/ptrace.h.
type syscallInfo struct {
	op    uint8
	_     [3]uint8
	arch  uint32
	ip    uint64
	sp    uint64
	nr    uint64
	args  [6]uint64
	_     [8]byte
	extra [8]byte
}

const syscallEntry = 1 // PTRACE_SYSCALL_INFO_ENTRY

type tracer struct {
	main    int // the program's thread group
	n, seen int
	groups  map[int]bool // all thread groups
	only    bool         // children's calls count
}

func run(n int, children bool, argv []string) (killed bool, err error) {
	runtime.LockOSThread() // a tracee belongs to the thread that traces it
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	t := &tracer{main: cmd.Process.Pid, n: n, groups: map[int]bool{cmd.Process.Pid: true}, only: children}
	var status unix.WaitStatus
	if _, err := unix.Wait4(t.main, &status, 0, nil); err != nil {
		return false, fmt.Errorf("wait for its start: %w", err)
	}
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC
	if err := unix.PtraceSetOptions(t.main, options); err != nil {
		return false, fmt.Errorf("trace it: %w", err)
	}
	for tid, signal := t.main, 0; ; {
		if err := unix.PtraceSyscall(tid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
			return killed, fmt.Errorf("continue %d: %w", tid, err)
		}
		if tid, err = unix.Wait4(-1, &status, unix.WALL, nil); errors.Is(err, unix.ECHILD) {
			return killed, nil
		} else if err != nil {
			return killed, fmt.Errorf("wait: %w", err)
		}
		signal = 0
		switch {
		case !status.Stopped():
			if tid == t.main && !killed && status.Exited() && status.ExitStatus() > 1 {
				return false, fmt.Errorf("it ended with code %d", status.ExitStatus())
			}
			continue
		case status.StopSignal() == unix.SIGTRAP|0x80:
			if !killed && t.changes(tid) {
				t.kill()
				killed = true
			}
		case status.StopSignal() == unix.SIGTRAP, status.StopSignal() == unix.SIGSTOP:
			t.groups[group(tid)] = true
		default:
			signal = int(status.StopSignal())
		}
	}
}

// kill kills the program, and its children unless they shall live.
func (t *tracer) kill() {
	for pid := range t.groups {
		if pid == t.main || !t.only {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// changes counts the call that tid is about to make, and reports whether it is
// the one.
func (t *tracer) changes(tid int) bool {
	var info syscallInfo
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 || info.op != syscallEntry {
		return false
	}
	what := describe(tid, &info)
	if what == "" || t.only && group(tid) == t.main {
		return false
	}
	t.seen++
	if t.n == 0 {
		fmt.Fprintf(os.Stderr, "%d %s\n", t.seen, what)
	}
	return t.seen == t.n
}

// describe names a call that changes a file; others are empty.
func describe(tid int, info *syscallInfo) string {
	fd := func(n uint64) string {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(n)))
		if err != nil || !strings.HasPrefix(link, "/") || strings.HasPrefix(link, "/dev/") || strings.HasPrefix(link, "/proc/") {
			return ""
		}
		return link
	}
	named := func(call, file string) string {
		if file == "" {
			return ""
		}
		return call + " " + file
	}
	switch info.nr {
	case unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_WRITEV:
		return named("write", fd(info.args[0]))
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		return named("fsync", fd(info.args[0]))
	case unix.SYS_FTRUNCATE:
		return named("truncate", fd(info.args[0]))
	case unix.SYS_FCHMOD:
		return named("chmod", fd(info.args[0]))
	case unix.SYS_OPENAT:
		if info.args[2]&(unix.O_CREAT|unix.O_TRUNC) != 0 {
			return named("create", text(tid, info.args[1]))
		}
	case unix.SYS_MKDIRAT, unix.SYS_UNLINKAT, unix.SYS_FCHMODAT:
		return named(map[uint64]string{unix.SYS_MKDIRAT: "mkdir", unix.SYS_UNLINKAT: "unlink", unix.SYS_FCHMODAT: "chmod"}[info.nr], text(tid, info.args[1]))
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT:
		return named("rename", text(tid, info.args[1])+" to "+text(tid, info.args[3]))
	case unix.SYS_SYMLINKAT:
		return named("symlink", text(tid, info.args[2]))
	case unix.SYS_MKDIR, unix.SYS_UNLINK, unix.SYS_RENAME, unix.SYS_RMDIR, unix.SYS_LINK:
		return named("change", text(tid, info.args[0]))
	}
	return ""
}

// text is a string of the tracee.
func text(tid int, at uint64) string {
	var buf [256]byte
	n, err := unix.PtracePeekData(tid, uintptr(at), buf[:])
	if err != nil && n == 0 {
		return "?"
	}
	s, _, _ := strings.Cut(string(buf[:n]), "\x00")
	return s
}

// group is the thread group of a thread.
func group(tid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return tid
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "Tgid:"); ok {
			if n, err := strconv.Atoi(strings.TrimSpace(text)); err == nil {
				return n
			}
		}
	}
	return tid
}
