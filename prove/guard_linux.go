// SPDX-License-Identifier: Apache-2.0

package prove

import (
	"context"
	"errors"
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
// function ends it: a byte says that nobody was killed, and that it need not wait
// for the canaries of others.
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
		_, err := write.Write([]byte{0})
		return errors.Join(err, write.Close(), cmd.Wait())
	}, nil
}

// RunGuard waits until in ends, and sweeps if it said nothing before.
func RunGuard(ctx context.Context, in io.Reader) error {
	return guard(ctx, in, sweepLive)
}

func guard(ctx context.Context, in io.Reader, sweep func(context.Context) error) error {
	if said, err := io.Copy(io.Discard, in); err != nil || said > 0 {
		if err != nil {
			err = fmt.Errorf("guard canaries: %w", err)
		}
		return err
	}
	return sweep(ctx)
}

func sweepLive(ctx context.Context) error {
	l, err := OpenLive(nil, Local)
	if err != nil {
		return err
	}
	defer l.Close()
	return l.sweepAll(ctx)
}
