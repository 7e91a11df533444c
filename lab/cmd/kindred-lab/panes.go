// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// panes shows the hosts' shells side by side until the person leaves. It uses a
// tmux server of its own, so that nothing of the person's is touched.
func panes(ctx context.Context, names []string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	server := []string{"-L", "kindred-lab-" + strconv.Itoa(os.Getpid())}
	tmux := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "tmux", append(slices.Clone(server), args...)...)
		// Inside somebody's tmux it would refuse to nest.
		cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TMUX=") })
		return cmd
	}
	// Without our context: this is the cleaning up.
	defer func() { _ = exec.Command("tmux", append(slices.Clone(server), "kill-server")...).Run() }()
	for i, name := range names {
		args := []string{"new-session", "-d", "-s", "lab", self, "shell", name}
		if i > 0 {
			args = []string{"split-window", "-h", "-t", "lab", self, "shell", name}
		}
		if out, err := tmux(args...).CombinedOutput(); err != nil {
			return fmt.Errorf("opening a pane for %s: %w: %s", name, err, strings.TrimSpace(string(out)))
		}
	}
	if out, err := tmux("select-layout", "-t", "lab", "even-horizontal").CombinedOutput(); err != nil {
		return fmt.Errorf("arranging the panes: %w: %s", err, strings.TrimSpace(string(out)))
	}
	attach := tmux("attach", "-t", "lab")
	attach.Stdin, attach.Stdout, attach.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := attach.Run(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("tmux: %w", err)
	}
	return nil
}
