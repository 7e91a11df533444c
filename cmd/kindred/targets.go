// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kindred/compat"
	"kindred/fleet"
)

type targetsOptions struct {
	files    inputFlags
	catalogs catalogFlags
	proofs   proofFlags
	output   outputFlag
	explain  bool
	maxAge   time.Duration
}

func newTargets() *cobra.Command {
	opts := new(targetsOptions)
	cmd := &cobra.Command{
		Use:   "targets DEVICE --inventory FILES",
		Short: "Show which hosts a device can move to, and why not the others",
		Long: `Show, for every host but the device's own, whether the device can move there:

  ready          compatible, with room, and ready for the move
  full           compatible, but nothing more can be created there
  unknown        something is not known; the reason says what
  not allowed    incompatible, or not ready
  not reporting  the inventory is older than --max-age

CREATE is the type to create there, ROOM how many more the kernel would create,
RETURN whether the device could come back (? for unknown). DEVICE is an id or
the beginning of one; write HOST/DEVICE where two hosts have the same.

Exit code: 0 some host is ready, 5 compatible ones are all full, 3 at best
unknown, 4 none is allowed.`,
		Example: `  kindred targets 83b8f4f2 --inventory host-a.json,host-b.json
  kindred targets host-a/83b8f4f2 --inventory fleet/ --explain
  kindred targets 0000:41:00.4 --inventory fleet/*.json -o json`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeDevice(&opts.files.inventories),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.files.addArgs(cmd, args[1:]); err != nil {
				return err
			}
			return runTargets(cmd, opts, args[0])
		},
	}
	opts.files.addFiles(cmd.Flags())
	opts.catalogs.add(cmd.Flags())
	opts.proofs.add(cmd.Flags())
	opts.output.add(cmd)
	cmd.Flags().BoolVar(&opts.explain, "explain", false, "show every finding of every offer")
	cmd.Flags().DurationVar(&opts.maxAge, "max-age", 0, "take older inventories for hosts that do not report (24h; 0: no limit)")
	return cmd
}

func runTargets(cmd *cobra.Command, opts *targetsOptions, device string) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	if len(opts.files.inventories) == 0 {
		return usage(cmd, errors.New("--inventory is needed"))
	}
	if opts.maxAge < 0 {
		return usage(cmd, fmt.Errorf("--max-age %s is negative", opts.maxAge))
	}
	f, err := openFleet(cmd, opts.files.inventories, &opts.catalogs, &opts.proofs)
	if err != nil {
		return err
	}
	s, err := source(f, device)
	if err != nil {
		return err
	}
	answer := f.Targets(s, fleet.Options{Now: time.Now(), MaxAge: opts.maxAge, Others: true})
	if err := opts.output.print(cmd, answer, func() { printTargets(cmd, answer, opts.explain) }); err != nil {
		return err
	}
	switch {
	case answer.Counts[fleet.Ready] > 0:
		return nil
	case answer.Counts[fleet.Full] > 0:
		return &exitError{code: exitFull}
	case answer.Counts[fleet.Unsettled] > 0:
		return &exitError{code: exitUnknown}
	}
	return &exitError{code: exitNo}
}

func groupText(g fleet.Group) string { return strings.ReplaceAll(string(g), "-", " ") }

func printTargets(cmd *cobra.Command, answer *fleet.Targets, explain bool) {
	printDevice(cmd, &answer.Device)
	if answer.Device.Age != "" {
		cmd.Printf("The inventory of the device's own host is %s old.\n", answer.Device.Age)
	}
	if answer.Simulated {
		cmd.Println("Some of these hosts are simulated.")
	}
	if len(answer.Hosts) == 0 {
		cmd.Println("\nNo other host was given: name more inventories.")
		return
	}
	t := newTable("GROUP", "HOST", "PARENT", "CREATE", "ROOM", "RETURN", "REASON")
	for i := range answer.Hosts {
		h := &answer.Hosts[i]
		back := "-"
		if h.Return != nil {
			back = short(*h.Return)
		}
		if h.Group == fleet.NotReporting { // what it said is not to be relied on
			t.add(groupText(h.Group), h.Host, "-", "-", "-", "-", targetReason(h))
			continue
		}
		t.add(groupText(h.Group), h.Host, orDash(h.Parent), typeText(h.Type), targetRoom(h), back, targetReason(h))
	}
	cmd.Print("\n" + t.String())
	if explain {
		for i := range answer.Hosts {
			explainTarget(cmd, &answer.Hosts[i])
		}
	}
}

func targetRoom(h *fleet.Target) string {
	if h.Room == nil {
		return "-"
	}
	return roomText(h.Room.Count)
}

// short is an outcome as a word for narrow columns.
func short(o compat.Outcome) string {
	return map[compat.Outcome]string{compat.Compatible: "yes", compat.Unknown: "?", compat.Incompatible: "no"}[o]
}

// targetReason says what put the host into its group.
func targetReason(h *fleet.Target) string { return reasonText(h.Reason()) }

// reasonText is a reason with its code, unless all is well.
func reasonText(r fleet.Reason) string {
	if r.Code == "" || r.Group == fleet.Ready {
		return r.Text
	}
	return r.Code + ": " + r.Text
}

func explainTarget(cmd *cobra.Command, h *fleet.Target) {
	cmd.Printf("\n%s: %s\n", clean(h.Host), groupText(h.Group))
	for _, c := range h.Ready {
		cmd.Printf("  %s  %s: %s\n", c.Met, c.Code, clean(c.Detail))
	}
	if h.Verdict != nil {
		if h.Parent != "" {
			cmd.Printf("  as %s on %s\n", clean(typeText(h.Type)), clean(h.Parent))
		}
		printFindings(cmd, h.Verdict.Findings)
	}
	var others []string
	for _, o := range h.Others {
		if len(o.Findings) > 0 && o.Findings[0].Code == compat.TypeDifferent {
			others = append(others, typeText(o.Type))
			continue
		}
		cmd.Printf("  or as %s on %s: %s\n", clean(typeText(o.Type)), clean(o.Parent), o.Outcome)
		printFindings(cmd, o.Findings)
	}
	if len(others) > 0 {
		slices.Sort(others)
		cmd.Print(newTable("  not as " + strings.Join(slices.Compact(others), ", ")).String())
		cmd.Printf("    %s: %s\n", compat.TypeDifferent, compat.TypeDifferent.Meaning())
	}
}
