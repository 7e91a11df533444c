// SPDX-License-Identifier: Apache-2.0

// Command kindredd is the fleet server: hosts' agents report to it, and kindred
// asks it. It is thin: flags, files, listeners; the rest is package server.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes, as kindred has them.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	exitInput  = 6
)

// exitError ends the program with a code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// run is the program without its process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(stderr, "kindredd: "+err.Error())
	if exit, ok := errors.AsType[*exitError](err); ok {
		return exit.code
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kindredd",
		Short: "The fleet server: hosts report to it, and it answers for all of them",
		Long: `kindredd knows what every host's agent reported, answers where devices can go,
holds room on targets and carries migrations from step to step.

It keeps what it knows in an etcd of its own below --data-dir, or in an existing
one; several servers may share that. See docs/fleet.md.`,
		Example: `  kindredd serve --data-dir /var/lib/kindred/server
  kindredd serve --etcd-endpoints https://etcd-1:2379,https://etcd-2:2379
  kindredd backup --data-dir /var/lib/kindred/server kindred.backup`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(usage)
	cmd.AddCommand(newServe(), newToken(), newAdmin(), newCert(), newAuthority(), newBackup(), newRestore())
	for _, sub := range leaves(cmd) {
		check := sub.Args
		sub.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usage(cmd, err)
			}
			return nil
		}
	}
	return cmd
}

// leaves are the commands that do something.
func leaves(cmd *cobra.Command) []*cobra.Command {
	if !cmd.HasSubCommands() {
		return []*cobra.Command{cmd}
	}
	var list []*cobra.Command
	for _, sub := range cmd.Commands() {
		list = append(list, leaves(sub)...)
	}
	return list
}

// usage is an error in how the program was called.
func usage(cmd *cobra.Command, err error) error {
	return &exitError{exitUsage, fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
}
