// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kindred/api"
	"kindred/client"
	"kindred/compat"
	"kindred/fleet"
)

type targetsOptions struct {
	server   serverFlags
	files    inputFlags
	catalogs catalogFlags
	proofs   proofFlags
	output   outputFlag
	explain  bool
	summary  bool
	limit    int
	policy   string
	maxAge   time.Duration
}

func newTargets() *cobra.Command {
	opts := new(targetsOptions)
	cmd := &cobra.Command{
		Use:   "targets DEVICE[,DEVICE...] [--inventory FILES]",
		Short: "Show which hosts a device can move to, and why not the others",
		Long: `Show, for every host but the device's own, whether the device can move there:

  ready          compatible, with room, and ready for the move
  full           compatible, but nothing more can be created there
  unknown        something is not known; the reason says what
  not allowed    incompatible, or not ready
  not reporting  the inventory is older than --max-age

CREATE is the type to create there, ROOM how many more the kernel would create,
RETURN whether the device could come back (? for unknown). DEVICE is an id or
the beginning of one; write HOST/DEVICE where two hosts have the same. Several
devices of one owner are placed together, each on its own room.

--policy says in which order hosts that are ready come, and which of a host's
parents:

  name           as they are called; of a host the parent with most room
  pack           least room left first, so that whole parents stay free
  spread         most room first
  proven-first   what a real transfer proved, then the same build, then others
  oldest-first   parents that offer the fewest types, since newer hardware
                 offers the old types beside its own

Without --inventory a server is asked, where one is known: KINDRED_SERVER,
--server, or its file. There ROOM is what claims leave.

Exit code: 0 some host is ready, 5 compatible ones are all full, 3 at best
unknown, 4 none is allowed.`,
		Example: `  kindred targets 83b8f4f2 --inventory host-a.json,host-b.json
  kindred targets host-a/83b8f4f2 --inventory fleet/ --explain
  KINDRED_SERVER=unix:/run/kindred/server.sock kindred targets 83b8f4f2
  kindred targets 0000:41:00.4 --inventory fleet/*.json -o json
  kindred targets 83b8f4f2,83b8f4f3 --inventory fleet/ --policy pack --limit 5
  kindred targets 83b8f4f2 --inventory fleet/ --summary`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeDevice(&opts.files.inventories),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.files.addArgs(cmd, args[1:]); err != nil {
				return err
			}
			return runTargets(cmd, opts, args[0])
		},
	}
	opts.add(cmd)
	return cmd
}

func (opts *targetsOptions) add(cmd *cobra.Command) {
	opts.server.add(cmd.Flags())
	opts.files.addFiles(cmd.Flags())
	opts.catalogs.add(cmd.Flags())
	opts.proofs.add(cmd.Flags())
	opts.output.add(cmd)
	cmd.Flags().BoolVar(&opts.explain, "explain", false, "show every finding of every offer")
	cmd.Flags().BoolVar(&opts.summary, "summary", false, "count hosts and reasons, and list no host")
	cmd.Flags().IntVar(&opts.limit, "limit", 0, "list the first `N` hosts only; all are counted (0: all)")
	addPolicy(cmd, &opts.policy, fleet.ByName)
	cmd.Flags().DurationVar(&opts.maxAge, "max-age", 0, "take older inventories for hosts that do not report (24h; 0: no limit)")
}

// addPolicy adds --policy.
func addPolicy(cmd *cobra.Command, policy *string, otherwise fleet.Policy) {
	var names []string
	for _, p := range fleet.Policies {
		names = append(names, string(p))
	}
	cmd.Flags().StringVar(policy, "policy", string(otherwise), "`ORDER` of hosts; kindred targets --help has them")
	_ = cmd.RegisterFlagCompletionFunc("policy", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
}

func checkPolicy(cmd *cobra.Command, policy string) error {
	if slices.Contains(fleet.Policies, fleet.Policy(policy)) {
		return nil
	}
	return usage(cmd, fmt.Errorf("unknown policy %q: it is one of name, pack, spread, proven-first, oldest-first", policy))
}

func (o *targetsOptions) check(cmd *cobra.Command) error {
	if err := o.output.check(cmd); err != nil {
		return err
	}
	switch {
	case o.maxAge < 0:
		return usage(cmd, fmt.Errorf("--max-age %s is negative", o.maxAge))
	case o.limit < 0:
		return usage(cmd, fmt.Errorf("--limit %d is negative", o.limit))
	case o.summary && (o.explain || o.limit > 0):
		return usage(cmd, errors.New("--summary lists no hosts: leave out --explain and --limit"))
	}
	return checkPolicy(cmd, o.policy)
}

func runTargets(cmd *cobra.Command, opts *targetsOptions, devices string) error {
	if err := opts.check(cmd); err != nil {
		return err
	}
	if c, err := opts.server.instead(cmd, opts.files.inventories, "max-age"); c != nil || err != nil {
		return askTargets(cmd, opts, c, strings.Split(devices, ","), err)
	}
	f, err := openFleet(cmd, opts.files.inventories, &opts.catalogs, &opts.proofs)
	if err != nil {
		return err
	}
	question := fleet.Options{
		Now: time.Now(), MaxAge: opts.maxAge, Policy: fleet.Policy(opts.policy), Limit: opts.limit, Reasons: opts.summary,
		Others: opts.explain || opts.output.format != "table",
	}
	if opts.summary {
		question.Limit = -1
	}
	var sources []*fleet.Source
	for ref := range strings.SplitSeq(devices, ",") {
		s, err := source(f, ref)
		if err != nil {
			return err
		}
		sources = append(sources, s)
	}
	if len(sources) > 1 {
		return runJoint(cmd, opts, f, sources, question)
	}
	return showTargets(cmd, opts, f.Targets(sources[0], question))
}

// askTargets has a server answer.
func askTargets(cmd *cobra.Command, opts *targetsOptions, c *client.Client, devices []string, err error) error {
	if err != nil {
		return err
	}
	defer c.Close()
	limit := opts.limit
	if opts.summary {
		limit = -1
	}
	if len(devices) > 1 {
		answer, err := c.Joint(cmd.Context(), &api.JointRequest{Devices: devices, Policy: fleet.Policy(opts.policy), Limit: limit, Reasons: opts.summary})
		if err != nil {
			return refusal(err)
		}
		return showJoint(cmd, opts, answer)
	}
	answer, err := c.Targets(cmd.Context(), &api.TargetsRequest{
		Device: devices[0], Policy: fleet.Policy(opts.policy), Limit: limit, Reasons: opts.summary,
		Others: opts.explain || opts.output.format != "table",
	})
	if err != nil {
		return refusal(err)
	}
	return showTargets(cmd, opts, answer)
}

func showTargets(cmd *cobra.Command, opts *targetsOptions, answer *fleet.Targets) error {
	if err := opts.output.print(cmd, answer, func() { printTargets(cmd, answer, opts) }); err != nil {
		return err
	}
	return targetsExit(answer.Counts)
}

func targetsExit(counts map[fleet.Group]int) error {
	switch {
	case counts[fleet.Ready] > 0:
		return nil
	case counts[fleet.Full] > 0:
		return &exitError{code: exitFull}
	case counts[fleet.Unsettled] > 0:
		return &exitError{code: exitUnknown}
	}
	return &exitError{code: exitNo}
}

func groupText(g fleet.Group) string { return strings.ReplaceAll(string(g), "-", " ") }

func printTargets(cmd *cobra.Command, answer *fleet.Targets, opts *targetsOptions) {
	printDevice(cmd, &answer.Device)
	if answer.Device.Age != "" {
		cmd.Printf("The inventory of the device's own host is %s old.\n", answer.Device.Age)
	}
	if answer.Simulated {
		cmd.Println("Some of these hosts are simulated.")
	}
	if opts.summary {
		printSummary(cmd, answer.Counts, answer.Reasons)
		return
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
	printRest(cmd, answer.Counts, len(answer.Hosts))
	if opts.explain {
		for i := range answer.Hosts {
			explainTarget(cmd, &answer.Hosts[i])
		}
	}
}

// printSummary prints how many hosts are in each group, and why.
func printSummary(cmd *cobra.Command, counts map[fleet.Group]int, reasons []fleet.Reason) {
	t := newTable("GROUP", "HOSTS", "REASON")
	for _, g := range fleet.Groups {
		if counts[g] > 0 {
			t.add(groupText(g), fmt.Sprint(counts[g]), "")
		}
		for _, r := range reasons {
			if r.Group == g {
				t.add("", fmt.Sprint(r.Hosts), reasonText(r))
			}
		}
	}
	cmd.Print("\n" + t.String())
}

// printRest says what a limit left out.
func printRest(cmd *cobra.Command, counts map[fleet.Group]int, listed int) {
	var rest []string
	all := 0
	for _, g := range fleet.Groups {
		if all += counts[g]; counts[g] > 0 {
			rest = append(rest, fmt.Sprintf("%d %s", counts[g], groupText(g)))
		}
	}
	if listed < all {
		cmd.Printf("\nThe first %d of %d hosts: %s.\n", listed, all, strings.Join(rest, ", "))
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
