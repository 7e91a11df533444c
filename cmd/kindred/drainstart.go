// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kindred/api"
	"kindred/client"
	"kindred/fleet"
)

type drainStartOptions struct {
	server serverFlags
	output outputFlag
	owners string
	policy string
	atOnce int
	wave   int
	proven bool
	ttl    time.Duration
	key    string
}

func newDrainStart() *cobra.Command {
	opts := new(drainStartOptions)
	cmd := &cobra.Command{
		Use:   "start HOSTS",
		Short: "Have a server move every owner off some hosts",
		Long: `Have a server move every owner off some hosts. It plans, holds room and has
targets prepared, a few moves at once; the VM manager takes each (kindred drain
next) and says how it ended. Moves that fail are planned anew, on another host, up
to three times; so is all that is left whenever hosts, room or builds change.

The drain is done when nothing is left, or nothing can be moved for a minute:
kindred drain show lists what stays, and why, and kindred drain resume tries again.

With --wave the hosts are drained so many at a time. When a wave is empty, the
drain waits until all of its hosts report another kernel, other modules or other
firmware, or for kindred drain resume; then it goes on with the next.`,
		Example: `  kindred drain start 'rack7-*' --at-once 8 --owners vms.yaml
  kindred drain start host-a,host-b --proven
  kindred drain start '*' --wave 10`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runDrainStart(cmd, opts, args[0]) },
	}
	opts.server.add(cmd.Flags())
	opts.output.add(cmd)
	addPolicy(cmd, &opts.policy, fleet.Pack)
	cmd.Flags().StringVar(&opts.owners, "owners", "", "`FILE` that says which devices belong together")
	cmd.Flags().IntVar(&opts.atOnce, "at-once", api.DrainAtOnce, "at most `N` moves at a time")
	cmd.Flags().IntVar(&opts.wave, "wave", 0, "drain `N` hosts at a time (0: all)")
	cmd.Flags().BoolVar(&opts.proven, "proven", false, "only where a real transfer proved the pair")
	cmd.Flags().DurationVar(&opts.ttl, "ttl", 0, "how long a move's room is held (the server's default)")
	cmd.Flags().StringVar(&opts.key, "key", "", "the same request with the same `KEY` makes one drain, not two")
	return cmd
}

func runDrainStart(cmd *cobra.Command, opts *drainStartOptions, names string) error {
	if err := errors.Join(opts.output.check(cmd), checkPolicy(cmd, opts.policy)); err != nil {
		return err
	}
	if opts.atOnce < 1 || opts.wave < 0 || opts.ttl < 0 {
		return usage(cmd, errors.New("--at-once is at least 1, --wave and --ttl are not negative"))
	}
	order := &api.DrainOrder{Wave: opts.wave, TTL: api.Duration(opts.ttl), DrainRequest: api.DrainRequest{
		Hosts: strings.Split(names, ","), Policy: fleet.Policy(opts.policy), AtOnce: opts.atOnce, Proven: opts.proven,
	}}
	if opts.owners != "" {
		var err error
		if order.Owners, err = readOwners(opts.owners); err != nil {
			return err
		}
	}
	c, err := opts.server.need(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := c.StartDrain(cmd.Context(), opts.key, order)
	if err != nil {
		return refusal(err)
	}
	return opts.output.print(cmd, d, func() { printDrain(cmd, d) })
}

// newDrainSteps are the commands about one drain that there is.
func newDrainSteps() []*cobra.Command {
	step := func(use, short string, ask func(context.Context, *client.Client, string) (*api.Drain, error)) *cobra.Command {
		return newOneOf(use+" DRAIN", short, "  kindred drain "+use+" dsfc6r6f3tarphbu", func(cmd *cobra.Command, c *client.Client, output *outputFlag, id string) error {
			d, err := ask(cmd.Context(), c, id)
			if err != nil {
				return refusal(err)
			}
			return output.print(cmd, d, func() { printDrain(cmd, d) })
		})
	}
	var how api.DrainCancel
	cancel := step("cancel", "Begin no more moves, for good", func(ctx context.Context, c *client.Client, id string) (*api.Drain, error) {
		return c.CancelDrain(ctx, id, &how)
	})
	cancel.Flags().BoolVar(&how.Abort, "abort", false, "abort its moves too, but for those that were handed over")
	return []*cobra.Command{
		step("pause", "Begin no more moves; those under way go on", func(ctx context.Context, c *client.Client, id string) (*api.Drain, error) {
			return c.PauseDrain(ctx, id)
		}),
		step("resume", "Go on: after a pause, with the next wave, or with what stayed", func(ctx context.Context, c *client.Client, id string) (*api.Drain, error) {
			return c.ResumeDrain(ctx, id)
		}),
		cancel,
		newOneOf("show DRAIN", "Show one drain, with what became of each owner", "  kindred drain show dsfc6r6f3tarphbu", func(cmd *cobra.Command, c *client.Client, output *outputFlag, id string) error {
			d, err := c.Drain(cmd.Context(), id, true)
			if err != nil {
				return refusal(err)
			}
			return output.print(cmd, d, func() { printDrainDetail(cmd, d) })
		}),
		newListOf("drains", "  kindred drain list --all -o json", func(cmd *cobra.Command, c *client.Client, output *outputFlag, all bool) error {
			list, _, err := c.Drains(cmd.Context(), all)
			if err != nil {
				return refusal(err)
			}
			if len(list) == 0 {
				list = []api.Drain{}
				cmd.PrintErrln("kindred: no drain is under way")
			}
			return output.print(cmd, list, func() {
				t := newTable("DRAIN", "STATE", "HOSTS", "MOVED", "MOVING", "WAITING", "STAY", "BY")
				for i := range list {
					d := &list[i]
					t.add(d.ID, drainState(d), number(len(d.Hosts)), number(d.Moved), number(d.Moving), number(d.Waiting), number(d.Staying), d.By)
				}
				if len(list) > 0 {
					cmd.Print(t.String())
				}
			})
		}),
	}
}

// drainState is a drain's state with its wave.
func drainState(d *api.Drain) string {
	if d.Wave == 0 {
		return string(d.State)
	}
	return fmt.Sprintf("%s, wave %d of %d", d.State, d.Turn, (len(d.Hosts)+d.Wave-1)/d.Wave)
}

func drainCounts(d *api.Drain) string {
	return fmt.Sprintf("%d moved, %d moving, %d waiting, %d stay", d.Moved, d.Moving, d.Waiting, d.Staying)
}

func printDrain(cmd *cobra.Command, d *api.Drain) {
	cmd.Printf("drain %s: %s, %s\n", d.ID, drainState(d), drainCounts(d))
	cmd.Println(strings.Join(wrap(counted(len(d.Hosts), "host")+": "+clean(strings.Join(d.Hosts, ", ")), 80), "\n"))
	cmd.Printf("%s at once, by %s, since %s\n", counted(d.AtOnce, "move"), clean(d.By), clock(d.Created))
	switch {
	case d.State == api.DrainEmptied:
		cmd.Printf("The hosts of this wave are empty. The next follows when they report another build, or by: kindred drain resume %s\n", d.ID)
	case !d.Idle.IsZero() && !d.State.Over():
		cmd.Printf("Nothing can be moved as things are, since %s.\n", clock(d.Idle))
	}
}

func printDrainDetail(cmd *cobra.Command, d *api.DrainDetail) {
	printDrain(cmd, &d.Drain)
	if !d.Owned && len(d.Owners) > 0 {
		cmd.Println("No owners were given: each device is taken for an owner of its own.")
	}
	if len(d.Owners) == 0 {
		return
	}
	t := newTable("OWNER", "IS", "ON", "TO", "DETAIL")
	for i := range d.Owners {
		o := &d.Owners[i]
		detail := o.Reason
		if o.Code != "" {
			detail = o.Code + ": " + detail
		}
		if o.State == api.OwnerMoving {
			detail = strings.TrimSuffix(string(o.Step)+", migration "+o.Migration+": "+detail, ": ")
		}
		t.add(ownerName(o.Owner), string(o.State), o.Host, orDash(o.Target), orDash(detail))
	}
	cmd.Print("\n" + t.String())
}
