// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"kindred/definition"
	"kindred/definition/mdevctl"
	"kindred/host/change"
	"kindred/host/mdev"
	"kindred/host/proc"
	"kindred/host/record"
	"kindred/inventory"
)

// calledAs is the name of the program whose command line is spoken, or "" for
// our own: a link decides by what it is called.
func calledAs(argv0 string) string {
	switch name := filepath.Base(argv0); name {
	case "mdevctl", "lsmdev":
		return name
	}
	return ""
}

func newMdevctl() *cobra.Command {
	return &cobra.Command{
		Use:   "mdevctl COMMAND [FLAGS]",
		Short: "Speak mdevctl's command line",
		Long: `Speak the command line of mdevctl, for libvirt, udev and scripts: its commands,
flags, output, exit codes, files and scripts. A link to kindred that is called
mdevctl or lsmdev does the same.

MDEVCTL_ENV_ROOT names a directory that stands for the machine.

Exit codes are mdevctl's: 0 done, 1 failed, 2 wrong flags.`,
		Example: `  kindred mdevctl list --defined
  kindred mdevctl types --dumpjson
  ln -s /usr/bin/kindred /usr/sbin/mdevctl`,
		DisableFlagParsing: true,
		ValidArgsFunction:  completeMdevctl,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
				return cmd.Help()
			}
			if code := runMdevctl(cmd.Context(), "mdevctl", args, cmd.OutOrStdout(), cmd.ErrOrStderr()); code != exitOK {
				return &exitError{code: code}
			}
			return nil
		},
	}
}

// runMdevctl ends scripts that are running when it is interrupted, and undoes
// what was begun.
func runMdevctl(ctx context.Context, name string, args []string, stdout, stderr io.Writer) int {
	root := os.Getenv("MDEVCTL_ENV_ROOT")
	if root == "" {
		root = "/"
	}
	return mdevctl.Run(ctx, name, args, mdevctl.System{
		Root: root, Change: changer{root}, Version: buildVersion(), Interruptible: untilInterrupted, Stdout: stdout, Stderr: stderr,
	})
}

func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// changer makes and unmakes the mdevs of the machine below root.
type changer struct{ root string }

func (c changer) Start(ctx context.Context, d *definition.Definition) error {
	h, err := change.Open(c.root)
	if err != nil {
		return err
	}
	defer h.Close()
	req := change.Request{Kind: inventory.Mdev, ID: d.UUID, Parent: d.Parent, Type: d.Type}
	for _, a := range d.Attributes {
		req.Attributes = append(req.Attributes, change.Attribute{Name: a.Name, Value: a.Value})
	}
	_, err = h.Start(ctx, req)
	if !errors.Is(err, syscall.EROFS) {
		return err
	}
	// udev meets the first parents before the root file system is writable. What
	// is on record of their devices then lasts as long as they do: until the
	// next boot.
	dir := filepath.Join(c.root, earlyRecords)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	early, err := record.OpenStore(dir)
	if err != nil {
		return err
	}
	if err := h.Records.Close(); err != nil {
		return errors.Join(err, early.Close())
	}
	h.Records = early // closed with h
	_, err = h.Start(ctx, req)
	return err
}

// earlyRecords is where records are while /var/lib cannot be written.
const earlyRecords = "run/kindred/early"

func (c changer) Stop(ctx context.Context, uuid string) error {
	h, err := change.Open(c.root)
	if err != nil {
		return err
	}
	defer h.Close()
	err = h.Stop(ctx, uuid, change.StopOptions{})
	if heldByCaller(err) {
		err = h.Stop(ctx, uuid, change.StopOptions{Force: true})
	}
	return err
}

// heldByCaller reports whether nobody has the device open but the program that
// called us: libvirtd opens the device's group while it calls mdevctl stop, so
// that no virtual machine can open the device meanwhile.
func heldByCaller(err error) bool {
	var holders []proc.Process
	if e, ok := errors.AsType[*change.Error](err); ok && e.Reason == change.InUse {
		holders = e.Holders
	} else if e, ok := errors.AsType[*mdev.Error](err); ok && e.Reason == mdev.InUse {
		holders = e.Holders
	}
	caller := os.Getppid()
	return len(holders) > 0 && !slices.ContainsFunc(holders, func(p proc.Process) bool { return p.PID != caller })
}

// completeMdevctl completes commands; flags are mdevctl's own to know.
func completeMdevctl(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return mdevctl.Commands(), cobra.ShellCompDirectiveNoFileComp
}
