// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

func newBackup() *cobra.Command {
	flags := new(storeFlags)
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write all that the server knows to a file",
		Long: `Write every record, as it was at one moment, to a file; - is standard output.

From an existing etcd (--etcd-endpoints) it can be done while servers run. The
store below --data-dir is open to one program at a time: stop the server first.`,
		Example: `  kindredd backup kindred.backup
  kindredd backup --etcd-endpoints https://etcd-1:2379 - | ssh safe 'cat > kindred.backup'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runBackup(cmd, flags, args[0]) },
	}
	flags.add(cmd)
	return cmd
}

func runBackup(cmd *cobra.Command, flags *storeFlags, name string) (err error) {
	kept, err := flags.open(cmd.Context(), cmd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	var to io.Writer = cmd.OutOrStdout()
	var file *renameio.PendingFile
	if name != "-" {
		if file, err = renameio.NewPendingFile(name, renameio.WithPermissions(0o600)); err != nil {
			return fmt.Errorf("back up: %w", err)
		}
		defer file.Cleanup()
		to = file
	}
	n, err := kept.Backup(cmd.Context(), to)
	if err != nil {
		return err
	}
	if file != nil {
		if err := file.CloseAtomicallyReplace(); err != nil {
			return fmt.Errorf("back up: %w", err)
		}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "kindredd: %d records\n", n)
	return nil
}

func newRestore() *cobra.Command {
	flags := new(storeFlags)
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Fill an empty store from a backup",
		Long: `Fill an empty store from a backup; - is standard input. No server may run on it
meanwhile. A file that is not a whole backup is refused before anything is
written.

Claims and migrations are as they were when the backup was made. What happened
since the hosts' agents know: the server completes what they have completed, and
marks the other migrations that went on since (host-ahead) until somebody says
how they ended: kindred migration list.`,
		Example: `  kindredd restore --data-dir /var/lib/kindred/server kindred.backup`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return runRestore(cmd, flags, args[0]) },
	}
	flags.add(cmd)
	return cmd
}

func runRestore(cmd *cobra.Command, flags *storeFlags, name string) (err error) {
	from := cmd.InOrStdin()
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return &exitError{exitInput, fmt.Errorf("restore: %w", err)}
		}
		defer file.Close()
		from = file
	}
	kept, err := flags.open(cmd.Context(), cmd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	n, err := kept.Restore(cmd.Context(), from)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "kindredd: %d records\n", n)
	return nil
}
