// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

const console = "/dev/ttyS0"

// supervise starts the server and the console's shell and reaps everything that
// ends, ours or orphaned. It returns when the server has ended, because a guest
// nobody can talk to is of no use.
func supervise() error {
	server, err := start(nil, "/dev/console", "/init", "serve")
	if err != nil {
		return fmt.Errorf("starting the server: %w", err)
	}
	// An own session with the terminal as its controlling one gives job control.
	session := &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	shell, err := start(session, console, "/bin/sh", "-l")
	if err != nil {
		return fmt.Errorf("starting a shell on %s: %w", console, err)
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Errorf("waiting for processes: %w", err)
		case pid == server:
			return fmt.Errorf("the server ended (status %d)", status)
		case pid == shell:
			time.Sleep(100 * time.Millisecond) // a shell that cannot start must not spin
			if shell, err = start(session, console, "/bin/sh", "-l"); err != nil {
				return fmt.Errorf("starting a shell on %s again: %w", console, err)
			}
		}
	}
}

// handOver starts the server and lets systemd be process 1 in its place, as on a
// host that was booted by it. It returns only when that failed.
func handOver(systemd string) error {
	if _, err := start(nil, "/dev/console", "/init", "serve"); err != nil {
		return fmt.Errorf("starting the server: %w", err)
	}
	err := syscall.Exec(systemd, []string{"/sbin/init", "--unit=basic.target"}, os.Environ())
	return fmt.Errorf("starting %s: %w", systemd, err)
}

// start does not use os/exec: process 1 waits for all processes alike.
func start(attr *syscall.SysProcAttr, terminal string, argv ...string) (pid int, err error) {
	tty, err := os.OpenFile(terminal, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return 0, err
	}
	defer tty.Close()
	fd := tty.Fd()
	return syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
		Dir:   "/root",
		Env:   os.Environ(),
		Files: []uintptr{fd, fd, fd},
		Sys:   attr,
	})
}
