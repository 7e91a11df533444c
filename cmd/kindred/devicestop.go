// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"kindred/definition"
	"kindred/definition/callout"
	"kindred/host/change"
	"kindred/host/mdev"
	"kindred/host/tree"
	"kindred/inventory"
)

type stopOptions struct{ force bool }

func newDeviceStop() *cobra.Command {
	opts := new(stopOptions)
	cmd := &cobra.Command{
		Use:   "stop DEVICE...",
		Short: "Unmake devices and restore what was there before",
		Long: `Unmake devices: remove an mdev; give a VF back to the driver it had, with the
settings it had; take the type from a vGPU's VF. A VF that Kindred did not
start, or that somebody else took since, is left alone.

A device that a process has open is left alone, and the error names the process.
With --force an mdev leaves the bus at once, and is gone when it is closed; a VF
is given back when it is closed and kindred device repair was run.`,
		Example: `  kindred device stop 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001
  kindred device stop 83b8f4f2
  kindred device stop 0000:41:00.2`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeDevices,
		RunE:              func(cmd *cobra.Command, args []string) error { return runDeviceStop(cmd, opts, args) },
	}
	cmd.Flags().BoolVarP(&opts.force, "force", "f", false, "stop devices that are in use, too")
	return cmd
}

// runDeviceStop stops one after the other, also when one cannot be stopped.
func runDeviceStop(cmd *cobra.Command, opts *stopOptions, args []string) error {
	ids, err := startedDevices(args)
	if err != nil {
		return err
	}
	return changeHost(cmd, func(ctx context.Context, h *change.Host) error {
		var failed []error
		for _, id := range ids {
			if ctx.Err() != nil { // the ones after it are not begun
				failed = append(failed, context.Cause(ctx))
				break
			}
			if err := stopOne(ctx, cmd, h, id, opts.force); err != nil {
				failed = append(failed, err)
			}
		}
		return report(cmd, failed)
	})
}

// report tells of all that failed but the last, which ends the program.
func report(cmd *cobra.Command, failed []error) error {
	if len(failed) == 0 {
		return nil
	}
	last := len(failed) - 1
	for _, err := range failed[:last] {
		fmt.Fprintln(cmd.ErrOrStderr(), "kindred: "+clean(oneLine(err.Error())))
	}
	return failed[last]
}

// stopOne stops a device between mdevctl's scripts. They are told of an mdev
// that runs, and of a VF that is defined, as when it was started.
func stopOne(ctx context.Context, cmd *cobra.Command, h *change.Host, id string, force bool) error {
	stop := func(*callout.Call) error { return h.Stop(ctx, id, change.StopOptions{Force: force}) }
	dev, ok := mdev.Find(h.Machine, id)
	d := &definition.Definition{UUID: id, Parent: dev.Parent, Type: typeText(dev.Type)}
	if !ok {
		if d = functionOf(cmd, id); d == nil {
			return stop(nil)
		}
		id = runs(d)
		if _, err := h.Records.Device(id); err != nil {
			return stop(nil)
		}
	}
	return scripted(ctx, cmd, callout.Stop, d, stop)
}

// functionOf is the definition of a VF, by its UUID or the VF's address; nil
// where there is none.
func functionOf(cmd *cobra.Command, id string) (found *definition.Definition) {
	_ = definitions(cmd, func(_ context.Context, store *definition.Store, warn tree.Warn) error {
		for _, d := range store.Read(definition.Filter{}, warn) {
			if vf := runs(&d); vf != d.UUID && (vf == id || d.UUID == id) {
				found = &d
			}
		}
		return nil
	})
	return found
}

// startedDevices resolves names of this host's devices: ids, or beginnings of
// them of four characters or more. A whole id is taken as it is: what is on
// record can be put right when the device itself is gone.
func startedDevices(refs []string) ([]string, error) {
	var list []inventory.Device
	ids := make([]string, len(refs))
	for i, ref := range refs {
		ids[i] = strings.ToLower(ref)
		if len(ref) == 36 || isAddress(ref) {
			continue
		}
		if list == nil {
			h, err := openHost("/")
			if err != nil {
				return nil, err
			}
			list = h.List(false, true).Devices
			h.Close()
		}
		var found []string
		for _, d := range list {
			if len(ref) >= 4 && strings.HasPrefix(d.ID, ids[i]) {
				found = append(found, d.ID)
			}
		}
		switch {
		case len(found) == 0:
			return nil, &exitError{exitNoSuch, fmt.Errorf("device %s: no such device on this host; see kindred device list", ref)}
		case len(found) > 1:
			return nil, &exitError{exitNoSuch, fmt.Errorf("device %s: several devices: %s", ref, strings.Join(found[:min(len(found), 4)], ", "))}
		}
		ids[i] = found[0]
	}
	return ids, nil
}

// completeDevices completes ids of this host's devices, for commands that take
// several.
func completeDevices(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	h, err := openHost("/")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer h.Close()
	var ids []string
	for _, d := range h.List(false, true).Devices {
		if strings.HasPrefix(d.ID, prefix) && !slices.Contains(args, d.ID) {
			ids = append(ids, d.ID+"\t"+typeText(d.Type)+" on "+d.Parent)
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// completeTypes completes what name makes of the types of this host, without
// those it makes nothing of.
func completeTypes(name func(*inventory.Parent, *inventory.Type) string) ([]string, cobra.ShellCompDirective) {
	h, err := openHost("/")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer h.Close()
	inv := h.List(true, false)
	var list []string
	for i := range inv.Parents {
		for j := range inv.Parents[i].Types {
			if text := name(&inv.Parents[i], &inv.Parents[i].Types[j]); text != "" {
				list = append(list, text)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list), cobra.ShellCompDirectiveNoFileComp
}
