// SPDX-License-Identifier: Apache-2.0

package callout

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// promptly is how long a script may take before its output is looked at while it
// runs: most are done by then, and what a pipe holds is read at once.
const promptly = 20 * time.Millisecond

// spawn runs a script without input to its end. Listings ask thousands of
// them: os/exec, with a goroutine and a place in the poller for each of its
// pipes, takes twice the processor time.
func spawn(ctx context.Context, path string, args []string) (result, error) {
	a := &asking{fds: [3]unix.PollFd{{Fd: -1}, {Fd: -1}, {Fd: -1}}}
	defer a.close()
	if err := a.begin(path, args); err != nil {
		return result{}, &os.PathError{Op: "start", Path: path, Err: err}
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = unix.Kill(-a.pid, unix.SIGKILL) // it may be gone
	})
	a.read()
	// The process is left as a zombie until nobody will kill it by its number.
	waited := again(func() error { return unix.Waitid(unix.P_PID, a.pid, nil, unix.WEXITED|unix.WNOWAIT, nil) })
	if !stop() {
		<-ended
	}
	var status unix.WaitStatus
	if waited == nil {
		waited = again(func() error { _, err := unix.Wait4(a.pid, &status, 0, nil); return err })
	}
	out := result{stdout: a.kept[0].kept, stderr: a.kept[1].kept}
	switch {
	case waited != nil:
		return out, fmt.Errorf("wait for it: %w", waited)
	case a.kept[0].full || a.kept[1].full:
		out.late = true // it may be dead of that before it said no
		return out, errTooMuch
	case status.Signaled():
		out.code, out.killed = -1, true
		return out, fmt.Errorf("signal: %v", status.Signal())
	}
	out.code = status.ExitStatus()
	return out, nil
}

// asking is one script that runs.
type asking struct {
	pid  int
	fds  [3]unix.PollFd // its end, its output, its error output
	kept [2]bounded
}

// begin starts the script in a process group of its own, so that ending it ends
// what it started.
func (a *asking) begin(path string, args []string) error {
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(null)
	files := []uintptr{uintptr(null), 0, 0}
	for i := 1; i <= 2; i++ {
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			return err
		}
		defer unix.Close(pipe[1])
		a.fds[i] = unix.PollFd{Fd: int32(pipe[0]), Events: unix.POLLIN}
		files[i] = uintptr(pipe[1])
	}
	pidfd := -1 // stays so where the kernel has none: its output's end tells then
	a.pid, err = syscall.ForkExec(path, append([]string{path}, args...), &syscall.ProcAttr{
		Env: os.Environ(), Files: files, Sys: &syscall.SysProcAttr{Setpgid: true, PidFD: &pidfd},
	})
	a.fds[0] = unix.PollFd{Fd: int32(pidfd), Events: unix.POLLIN}
	return err
}

func (a *asking) close() {
	for i := range a.fds {
		a.shut(i)
	}
}

func (a *asking) shut(i int) {
	if a.fds[i].Fd >= 0 {
		unix.Close(int(a.fds[i].Fd))
		a.fds[i].Fd = -1
	}
}

// read takes the outputs to their ends, or to a moment after the script's.
func (a *asking) read() {
	if a.fds[0].Fd >= 0 {
		_, _ = unix.Poll(a.fds[:1], int(promptly.Milliseconds()))
	}
	var until time.Time // once it has ended
	for a.fds[1].Fd >= 0 || a.fds[2].Fd >= 0 {
		wait := -1
		if a.fds[0].Revents != 0 {
			if until.IsZero() {
				until = time.Now().Add(lingering)
				a.shut(0)
			}
		}
		if !until.IsZero() {
			// What is there by then is read, however late this one comes to it.
			wait = max(0, int(time.Until(until).Milliseconds()))
		}
		if n, err := unix.Poll(a.fds[:], wait); err == unix.EINTR {
			continue
		} else if err != nil || n == 0 && wait == 0 {
			return
		}
		for i := 1; i <= 2; i++ {
			a.take(i)
		}
	}
}

// take reads what is there of one output.
func (a *asking) take(i int) {
	if a.fds[i].Fd < 0 || a.fds[i].Revents == 0 {
		return
	}
	n := 0
	if a.fds[i].Revents&unix.POLLIN != 0 {
		var buf [4096]byte
		var err error
		if n, err = unix.Read(int(a.fds[i].Fd), buf[:]); err == unix.EINTR {
			return
		}
		if n > 0 {
			_, err = a.kept[i-1].Write(buf[:n])
		}
		if err != nil {
			n = 0 // too much: who goes on writing is ended by that
		}
	}
	if n <= 0 {
		a.shut(i)
	}
}

// again repeats a call that a signal interrupted.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
