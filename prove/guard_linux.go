// SPDX-License-Identifier: Apache-2.0

package prove

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// GuardCommand is the hidden command of kindred that runs RunGuard.
const GuardCommand = "canary-guard"

// Guard starts a process that removes this process's canaries if this one is
// killed: it waits on a pipe that the kernel closes then, and sweeps. What a
// Guard cannot do, because it was killed too, the next sweep does. The returned
// function ends it.
func Guard() (end func() error, err error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("guard canaries: %w", err)
	}
	defer read.Close()
	cmd := exec.Command("/proc/self/exe", GuardCommand)
	cmd.Stdin = read
	// A group of its own: an interrupt from the terminal is for this process,
	// which removes its canaries itself.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		write.Close()
		return nil, fmt.Errorf("guard canaries: %w", err)
	}
	return func() error {
		write.Close()
		return cmd.Wait()
	}, nil
}

// RunGuard waits until in ends, and sweeps.
func RunGuard(ctx context.Context, in io.Reader) error {
	if _, err := io.Copy(io.Discard, in); err != nil {
		return fmt.Errorf("guard canaries: %w", err)
	}
	l, err := OpenLive(nil)
	if err != nil {
		return err
	}
	defer l.Close()
	return l.sweepAll(ctx)
}
