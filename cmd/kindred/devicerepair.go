// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"kindred/host/change"
)

type repairOptions struct {
	dryRun bool
	output outputFlag
}

func newDeviceRepair() *cobra.Command {
	opts := new(repairOptions)
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Finish or undo what killed programs left",
		Long: `Put right what programs left that were killed while they changed a device, and
forget devices that are gone. What a running program is changing is left to it.

A start that was cut short is undone. It is completed instead where somebody has
the device open already, and where it cannot be told whether the device that is
there is Kindred's. A stop that was cut short is completed, or dropped if it had
not begun and the device is in use.

Exit code: 0 all is well now, 1 something could not be repaired.`,
		Example: `  kindred device repair --dry-run
  kindred device repair`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDeviceRepair(cmd, opts) },
	}
	cmd.Flags().BoolVarP(&opts.dryRun, "dry-run", "n", false, "only print what would be done")
	opts.output.add(cmd)
	return cmd
}

// repaired is one line of the answer.
type repaired struct {
	Device string        `json:"device"`
	Action change.Action `json:"action"`
	Why    string        `json:"why"`
	Error  string        `json:"error,omitempty"`
}

func runDeviceRepair(cmd *cobra.Command, opts *repairOptions) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	return changeHost(cmd, func(ctx context.Context, h *change.Host) error {
		found, err := h.Repair(ctx, opts.dryRun)
		if err != nil {
			return err
		}
		rows, left := []repaired{}, false
		for _, f := range found {
			row := repaired{Device: f.ID, Action: f.Action, Why: f.Why}
			if f.Err != nil {
				row.Error, left = f.Err.Error(), true
			}
			rows = append(rows, row)
		}
		err = opts.output.print(cmd, rows, func() {
			t := newTable("DEVICE", "ACTION", "WHY")
			for _, r := range rows {
				why := r.Why
				if r.Error != "" {
					why = r.Error
				}
				t.add(r.Device, string(r.Action), why)
			}
			if len(rows) == 0 {
				cmd.PrintErrln("kindred: nothing to repair")
				return
			}
			_, _ = io.WriteString(cmd.OutOrStdout(), t.String())
		})
		if err == nil && left {
			err = &exitError{exitFailed, nil}
		}
		return err
	})
}
