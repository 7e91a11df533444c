// SPDX-License-Identifier: Apache-2.0

// Package private runs the calling program in a mount namespace of its own, in
// which a synthetic tree can take the place of /sys.
//
// mdevctl 1.2.0 has no option for another root, and many kernels have no mdev
// bus to mount over, so all of /sys is covered. It is done once, and not timed:
// both programs then start in the same namespace.
package private

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

const marker = "KINDRED_BENCH_PRIVATE"

// Inside reports whether this process was started by Run.
func Inside() bool { return os.Getenv(marker) != "" }

// Run starts this program again in a private mount namespace, with the same
// arguments, and returns its exit code.
func Run() (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 1, fmt.Errorf("find this program to start it again: %w", err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), marker+"=1")
	// With CLONE_NEWNS the standard library also makes the mounts private.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return 1, fmt.Errorf("a private mount namespace cannot be made (run as root): %w", err)
	}
	return 0, nil
}

// Cover mounts the tree's sys over /sys; uncover takes it away again.
func Cover(root string) (uncover func() error, err error) {
	if !Inside() {
		return nil, errors.New("cover /sys: not in a private mount namespace; call Run first")
	}
	if err := unix.Mount(filepath.Join(root, "sys"), "/sys", "", unix.MS_BIND, ""); err != nil {
		return nil, fmt.Errorf("mount the synthetic tree over /sys (run as root): %w", err)
	}
	return func() error {
		if err := unix.Unmount("/sys", unix.MNT_DETACH); err != nil {
			return fmt.Errorf("take the synthetic tree off /sys: %w", err)
		}
		return nil
	}, nil
}
