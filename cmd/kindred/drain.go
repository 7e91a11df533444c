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
	"kindred/fleet"
)

type drainOptions struct {
	server   serverFlags
	files    inputFlags
	catalogs catalogFlags
	proofs   proofFlags
	output   outputFlag
	change   changeFlags
	owners   string
	policy   string
	atOnce   int
	wave     int
	proven   bool
	maxAge   time.Duration
}

func newDrain() *cobra.Command {
	opts := new(drainOptions)
	cmd := &cobra.Command{
		Use:   "drain HOSTS [--inventory FILES]",
		Short: "Move every owner off some hosts: a plan, or done",
		Long: `Plan moves that take every owner of devices off some hosts: where each goes, and
which parent and type each of its devices gets. HOSTS are names or globs,
separated by commas. No move goes to one of them. What cannot be moved is told,
and why, and how many owners any plan could move at most.

An inventory does not say whose devices are; --owners names a file that does:

  schema: kindred.owners/v1
  owners:
    - {name: vm-1, devices: [host-a/83b8f4f2, host-a/83b8f4f3], apart: [db]}

Devices that it does not name, or all without it, are taken for owners of their
own. Two owners with a label of apart in common are never put on one host.

With --wave the hosts are drained so many at a time, as an upgrade of all of
them does: a host that was emptied is changed as --build, --kernel, --firmware
and --fact say, and takes owners again.

Without --inventory a server is asked, where one is known: no move goes to a host
that does not report, and room is what claims leave.

This plans, and moves nothing; kindred drain start has it done. A host that is
called like a command below is written as a glob: '[l]ist'.

Exit code: 0 every owner can be moved, 4 some cannot.`,
		Example: `  kindred drain host-a --inventory fleet/
  kindred drain 'rack7-*' --inventory fleet/ --owners vms.yaml --at-once 4
  kindred drain '*' --inventory fleet/ --wave 10 --build '*:mtty=5f3c9a' -o json
  kindred drain start 'rack7-*' --at-once 8`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.files.addArgs(cmd, args[1:]); err != nil {
				return err
			}
			return runDrain(cmd, opts, args[0])
		},
	}
	opts.server.add(cmd.Flags())
	opts.files.addFiles(cmd.Flags())
	opts.catalogs.add(cmd.Flags())
	opts.proofs.add(cmd.Flags())
	opts.output.add(cmd)
	opts.change.add(cmd.Flags())
	addPolicy(cmd, &opts.policy, fleet.Pack)
	cmd.Flags().StringVar(&opts.owners, "owners", "", "`FILE` that says which devices belong together")
	cmd.Flags().IntVar(&opts.atOnce, "at-once", 0, "at most `N` moves at a time (0: any number)")
	cmd.Flags().IntVar(&opts.wave, "wave", 0, "drain `N` hosts at a time, then use them again (0: all)")
	cmd.Flags().BoolVar(&opts.proven, "proven", false, "only where a real transfer proved the pair")
	cmd.Flags().DurationVar(&opts.maxAge, "max-age", 0, "no moves to hosts with older inventories (24h; 0: any)")
	cmd.AddCommand(newDrainStart(), newDrainWatch(), newDrainNext())
	cmd.AddCommand(newDrainSteps()...)
	return cmd
}

func (o *drainOptions) check(cmd *cobra.Command) ([]fleet.Change, error) {
	if err := o.output.check(cmd); err != nil {
		return nil, err
	}
	changes, err := o.change.changes(cmd)
	if err != nil {
		return nil, err
	}
	switch {
	case o.atOnce < 0 || o.wave < 0 || o.maxAge < 0:
		return nil, usage(cmd, errors.New("--at-once, --wave and --max-age are not negative"))
	case len(changes) > 0 && o.wave == 0:
		return nil, usage(cmd, errors.New("hosts are changed between waves: --wave says how many at a time"))
	}
	return changes, checkPolicy(cmd, o.policy)
}

func runDrain(cmd *cobra.Command, opts *drainOptions, names string) error {
	changes, err := opts.check(cmd)
	if err != nil {
		return err
	}
	limits := fleet.DrainOptions{Policy: fleet.Policy(opts.policy), AtOnce: opts.atOnce, Proven: opts.proven, Now: time.Now(), MaxAge: opts.maxAge}
	if opts.owners != "" {
		if limits.Owners, err = readOwners(opts.owners); err != nil {
			return err
		}
	}
	globs := strings.Split(names, ",")
	c, err := opts.server.instead(cmd, opts.files.inventories, "max-age")
	if err != nil {
		return err
	}
	if c != nil {
		defer c.Close()
		return askDrain(cmd, opts, c, &api.RolloutRequest{Wave: opts.wave, Changes: changes, DrainRequest: api.DrainRequest{
			Hosts: globs, Owners: limits.Owners, Policy: limits.Policy, AtOnce: limits.AtOnce, Proven: limits.Proven,
		}})
	}
	f, err := openFleet(cmd, opts.files.inventories, &opts.catalogs, &opts.proofs)
	if err != nil {
		return err
	}
	hosts, err := f.Named(globs)
	if err != nil {
		return noSuch(err)
	}
	if opts.wave > 0 {
		r, err := f.Rolling(hosts, opts.wave, changes, limits)
		if err != nil {
			return noSuch(err)
		}
		return showRollout(cmd, opts, r)
	}
	plan, err := f.Drain(hosts, limits)
	if err != nil {
		return noSuch(err)
	}
	return showPlan(cmd, opts, plan)
}

// askDrain has a server plan.
func askDrain(cmd *cobra.Command, opts *drainOptions, c *client.Client, r *api.RolloutRequest) error {
	if opts.wave > 0 {
		answer, err := c.PlanRollout(cmd.Context(), r)
		if err != nil {
			return refusal(err)
		}
		return showRollout(cmd, opts, answer)
	}
	plan, err := c.PlanDrain(cmd.Context(), &r.DrainRequest)
	if err != nil {
		return refusal(err)
	}
	return showPlan(cmd, opts, plan)
}

func showPlan(cmd *cobra.Command, opts *drainOptions, plan *fleet.Plan) error {
	if err := opts.output.print(cmd, plan, func() { printPlan(cmd, plan) }); err != nil {
		return err
	}
	if len(plan.Stays) > 0 {
		return &exitError{code: exitNo}
	}
	return nil
}

func showRollout(cmd *cobra.Command, opts *drainOptions, r *fleet.Rollout) error {
	if err := opts.output.print(cmd, r, func() { printRollout(cmd, r) }); err != nil {
		return err
	}
	if len(r.Kept) > 0 {
		return &exitError{code: exitNo}
	}
	return nil
}

func printPlan(cmd *cobra.Command, p *fleet.Plan) {
	printPlanHead(cmd, p.Simulated, p.Owned)
	cmd.Printf("%s from %s, %d moved in %s%s.\n", counted(p.Owners, "owner"), counted(len(p.Hosts), "host"), p.Moved, counted(p.Steps, "step"), boundText(p))
	printMoves(cmd, p)
}

func printPlanHead(cmd *cobra.Command, simulated, owned bool) {
	if simulated {
		cmd.Println("Some of these hosts are simulated.")
	}
	if !owned {
		cmd.Println("No owners were given: each device is taken for an owner of its own.")
	}
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func boundText(p *fleet.Plan) string {
	switch {
	case p.Moved == p.Owners:
		return ""
	case p.Bound == p.Moved:
		return ", and no plan moves more"
	}
	return fmt.Sprintf(", and no plan moves more than %d", p.Bound)
}

// printMoves prints the moves of a plan. A device that is its own owner is
// named once.
func printMoves(cmd *cobra.Command, p *fleet.Plan) {
	if len(p.Moves) > 0 {
		header := []string{"STEP", "FROM", "TO", "CREATE", "PARENT", "DEVICE"}
		if p.Owned {
			header = append([]string{"STEP", "OWNER"}, header[1:]...)
		}
		t := newTable(header...)
		for i := range p.Moves {
			addMove(t, &p.Moves[i], p.Owned)
		}
		cmd.Print("\n" + t.String())
	}
	if len(p.Stays) > 0 {
		t := newTable("STAYS", "ON", "REASON")
		for _, s := range p.Stays {
			t.add(ownerName(s.Owner), s.Host, string(s.Code)+": "+s.Detail)
		}
		cmd.Print("\n" + t.String())
	}
}

func addMove(t *table, m *fleet.Move, owned bool) {
	for n, g := range m.Gets {
		head := []string{"", "", "", ""}
		if n == 0 {
			head = []string{fmt.Sprint(m.Step), m.Owner, m.From, m.To}
			if ownerName(m.Owner) == g.Device {
				head[1] = "-"
			}
		}
		if !owned {
			head = slices.Delete(head, 1, 2)
		}
		device := g.Device
		if m.Estimate {
			device += " (an estimate)"
		}
		t.add(append(head, typeText(g.Type), g.Parent, device)...)
	}
}

// ownerName is an owner's name; of a device that is its own owner, the device.
func ownerName(name string) string {
	if _, id, ok := strings.Cut(name, "/"); ok {
		return id
	}
	return name
}

func printRollout(cmd *cobra.Command, r *fleet.Rollout) {
	printPlanHead(cmd, r.Simulated, r.Owned)
	for _, c := range r.Changes {
		cmd.Println("Once a host is empty: " + clean(c))
	}
	cmd.Printf("%s in %s, %s.\n", counted(r.Upgraded, "host"), counted(len(r.Waves), "wave"), counted(r.Moves, "move"))
	for i, p := range r.Waves {
		cmd.Printf("\nWave %d: %s", i+1, clean(strings.Join(p.Hosts, ", ")))
		if p.Owners > 0 {
			cmd.Printf(": %s, %d moved%s", counted(p.Owners, "owner"), p.Moved, boundText(p))
		}
		cmd.Println(".")
		printMoves(cmd, p)
	}
	if len(r.Kept) > 0 {
		cmd.Println("\nNot emptied, and kept as they are: " + clean(strings.Join(r.Kept, ", ")))
	}
}
