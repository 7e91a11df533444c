// SPDX-License-Identifier: Apache-2.0

// Command kindred-demo shows Kindred's main job on a fleet that it simulates: a
// server, hosts of three generations with the real agents, a guest whose device
// moves from an old host to a newer one as the old type. Each step is a command
// that can be typed again; with --once it ends when they are done, and says by
// its exit code whether all of it worked.
//
// What is simulated are the machines' kernels and the VM manager. What is real
// is everything between: agents, server, etcd, questions, claims, the state that
// moves.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRoot().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "kindred-demo: "+err.Error())
		os.Exit(1)
	}
}

// place is where a demo keeps its files: the same each time, so that commands
// can be typed again.
func place() string { return filepath.Join(os.TempDir(), "kindred-demo") }

func newRoot() *cobra.Command {
	opts := new(options)
	cmd := &cobra.Command{
		Use:           "kindred-demo",
		Short:         "Show where a device can go, and take it there, on a simulated fleet",
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), opts) },
	}
	cmd.Flags().BoolVar(&opts.once, "once", false, "end when all steps are done; exit code 0 if all worked")
	cmd.Flags().StringVar(&opts.bin, "bin", "bin", "the `DIR` with kindred and kindredd")
	cmd.Flags().StringVar(&opts.dir, "dir", place(), "keep everything below `DIR`, which is removed at the end")
	cmd.AddCommand(newMove(), newGuests())
	return cmd
}

// The commands that ask a demo that runs: what the simulated VM manager does.

func newMove() *cobra.Command {
	return order("move MIGRATION", "Have the VM manager move the guest of a migration that is prepared", cobra.ExactArgs(1),
		func(args []string) string { return "move?migration=" + args[0] })
}

func newGuests() *cobra.Command {
	return order("guests", "Say where guests run, and with which devices", cobra.NoArgs, func([]string) string { return "guests" })
}

func order(use, short string, args cobra.PositionalArgs, what func([]string) string) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := ask(cmd.Context(), dir, what(args))
			fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", place(), "the `DIR` of the demo that runs")
	return cmd
}

type options struct {
	once     bool
	bin, dir string
}

func run(ctx context.Context, opts *options) (err error) {
	for _, name := range []string{"kindred", "kindredd"} {
		if _, err := os.Stat(filepath.Join(opts.bin, name)); err != nil {
			return fmt.Errorf("%w: make demo builds it", err)
		}
	}
	unlock, err := begin(opts.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(opts.dir), unlock()) }()
	s, err := start(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	told := s.tell(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if opts.once || told != nil {
		return told
	}
	fmt.Print(explore(opts))
	<-ctx.Done()
	fmt.Println("\nStopping; nothing is left behind.")
	return nil
}

// begin makes the directory, which one demo has at a time.
func begin(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("another demo runs in %s: stop it, or name another --dir", dir)
	}
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		lock.Close()
		return nil, err
	}
	return func() error { return errors.Join(os.Remove(dir+".lock"), lock.Close()) }, nil
}
