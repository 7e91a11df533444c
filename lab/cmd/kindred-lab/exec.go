// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/term"

	"kindred/lab"
)

// execute runs one command on a host and ends as the command ended.
func execute(ctx context.Context, args []string) error {
	if len(args) < 3 || args[1] != "--" {
		return errors.New("usage: kindred-lab exec HOST -- COMMAND [ARG...]")
	}
	host, cmd := args[0], lab.Cmd{Argv: args[2:]}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		cmd.Stdin = os.Stdin
	}
	dir, err := runDir()
	if err != nil {
		return err
	}
	client, err := lab.Dial(ctx, host, controlSocket(dir, host))
	if err != nil {
		return fmt.Errorf("host %s is not up (start it with: kindred-lab up %s): %w", host, host, err)
	}
	defer client.Hangup()
	result, err := client.Run(ctx, cmd)
	if err != nil {
		return err
	}
	os.Stdout.Write(result.Stdout)
	os.Stderr.Write(result.Stderr)
	if result.ExitCode != 0 {
		return exitCode(result.ExitCode)
	}
	return nil
}
