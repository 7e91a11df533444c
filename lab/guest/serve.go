// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kindred/lab/internal/wire"
)

// serve answers requests until the port ends, which it does only when the
// machine is going away.
func serve() error {
	port, err := openPort()
	if err != nil {
		return err
	}
	defer port.Close()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	if err := wire.Write(port, wire.Response{Release: unix.ByteSliceToString(uts.Release[:])}, nil); err != nil {
		return err
	}
	return wire.Serve(context.Background(), port, handle)
}

// openPort finds the port by its name: the number depends on the other devices.
func openPort() (*os.File, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		got, err := os.ReadFile(name)
		if err != nil || strings.TrimSpace(string(got)) != wire.PortName {
			continue
		}
		dev := "/dev/" + filepath.Base(filepath.Dir(name))
		// Blocking on purpose: the port's poll support is of no use to one reader.
		fd, err := syscall.Open(dev, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("opening %s: %w", dev, err)
		}
		return os.NewFile(uintptr(fd), dev), nil
	}
	return nil, fmt.Errorf("no virtio port named %q among %d", wire.PortName, len(names))
}

func handle(ctx context.Context, req wire.Request, body []byte) (resp wire.Response, out []byte) {
	var err error
	switch req.Op {
	case wire.OpRun:
		resp, out, err = runCommand(ctx, req, body)
	case wire.OpPut:
		err = put(req, body)
	case wire.OpGet:
		out, err = get(req.Path)
	case wire.OpCapture:
		out, err = capture(ctx, req.Globs)
	case wire.OpKlog:
		out, err = kernelLog()
	case wire.OpPowerOff:
		powerOff()
	default:
		err = fmt.Errorf("this guest does not know the request %q: its initramfs is from another build", req.Op)
	}
	if err != nil {
		return wire.Response{Error: err.Error()}, nil
	}
	return resp, out
}

// runCommand gives a command its own process group, so that giving it up takes
// its children along.
func runCommand(ctx context.Context, req wire.Request, stdin []byte) (wire.Response, []byte, error) {
	if len(req.Argv) == 0 {
		return wire.Response{}, nil, errors.New("no command given")
	}
	cmd := exec.CommandContext(ctx, req.Argv[0], req.Argv[1:]...)
	cmd.Dir = "/root"
	cmd.Env = append(os.Environ(), req.Env...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stdout, stderr limited
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// A daemon left behind may hold the pipes; do not wait for it.
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return wire.Response{}, nil, fmt.Errorf("%s: given up: %w", req.Argv[0], ctx.Err())
	case err == nil, errors.Is(err, exec.ErrWaitDelay), errors.As(err, &exit):
	default:
		return wire.Response{}, nil, err
	}
	if stdout.lost || stderr.lost {
		return wire.Response{}, nil, fmt.Errorf("%s wrote more than %d bytes: send its output to a file", req.Argv[0], maxOutput)
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	code := status.ExitStatus()
	if status.Signaled() {
		code = 128 + int(status.Signal()) // as a shell says it
	}
	resp := wire.Response{ExitCode: code, Stdout: stdout.Len()}
	return resp, append(stdout.Bytes(), stderr.Bytes()...), nil
}

// maxOutput is what one stream of one command may write: both fit in a frame.
const maxOutput = wire.MaxBody / 2

// limited keeps the first maxOutput bytes and lets the command go on.
type limited struct {
	bytes.Buffer
	lost bool
}

func (l *limited) Write(p []byte) (int, error) {
	if keep := maxOutput - l.Len(); len(p) > keep {
		l.lost = true
		l.Buffer.Write(p[:keep])
		return len(p), nil
	}
	return l.Buffer.Write(p)
}

// put writes one part of a file. The file gets its name with the last part, so
// a reader never sees half of it.
func put(req wire.Request, body []byte) error {
	part := req.Path + ".part"
	flags := os.O_WRONLY | os.O_CREATE
	if req.Offset == 0 {
		if err := os.MkdirAll(filepath.Dir(req.Path), 0o755); err != nil {
			return err
		}
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(part, flags, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(body, req.Offset); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil || !req.Last {
		return err
	}
	if err := os.Chmod(part, os.FileMode(req.Mode)&os.ModePerm); err != nil {
		return err
	}
	return os.Rename(part, req.Path)
}

// get reads to the end instead of asking for a size: pseudo-files lie about it.
func get(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, wire.MaxBody+1))
	if err == nil && len(data) > wire.MaxBody {
		err = fmt.Errorf("%s has more than %d bytes", path, wire.MaxBody)
	}
	return data, err
}

// kernelLog copies the log buffer without clearing it.
func kernelLog() ([]byte, error) {
	size, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil)
	if err != nil {
		return nil, fmt.Errorf("asking for the size of the kernel log: %w", err)
	}
	buf := make([]byte, size)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buf)
	if err != nil {
		return nil, fmt.Errorf("reading the kernel log: %w", err)
	}
	return buf[:n], nil
}
