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
)

func newMigration() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migration",
		Short: "Carry the devices of one owner from host to host",
		Long: `Carry the devices of one owner from host to host. Kindred holds room, has the
target make the devices, and clears the end that is left; the VM manager (QEMU,
libvirt) moves their state in between:

  create      hold room and prepare the target, until it is prepared
  hand-over   take the devices: the VM manager may use them from now on
  complete    the VM runs on the target: the source is cleared
  abort       the VM stays on the source: the target is cleared

Until complete the source is the devices' owner, from then on the target. What
nobody says in time is found out from the hosts; in doubt nothing is removed.`,
		Example: `  kindred migration create 83b8f4f2 --target host-b --wait
  kindred migration list`,
		Args: cobra.ArbitraryArgs,
		RunE: needsSubcommand,
	}
	step := func(use, short string, ask func(context.Context, *client.Client, string) (*api.Migration, error)) *cobra.Command {
		return newOneOf(use+" MIGRATION", short, "  kindred migration "+use+" dsfc6r6f3tarphbu", func(cmd *cobra.Command, c *client.Client, output *outputFlag, id string) error {
			m, err := ask(cmd.Context(), c, id)
			if err != nil {
				return refusal(err)
			}
			return output.print(cmd, m, func() { printMigration(cmd, m) })
		})
	}
	cmd.AddCommand(newMigrationCreate(), newMigrationList(), newMigrationAbort(),
		step("show", "Show one migration", func(ctx context.Context, c *client.Client, id string) (*api.Migration, error) {
			return c.Migration(ctx, id)
		}),
		step("hand-over", "Take the prepared devices, to move the VM's state", func(ctx context.Context, c *client.Client, id string) (*api.Migration, error) {
			return c.HandOver(ctx, id)
		}),
		step("complete", "Say that the VM runs on the target", func(ctx context.Context, c *client.Client, id string) (*api.Migration, error) {
			return c.Complete(ctx, id)
		}))
	return cmd
}

type migrationOptions struct {
	claimOptions
	claim string
	wait  time.Duration
}

func newMigrationCreate() *cobra.Command {
	opts := new(migrationOptions)
	cmd := &cobra.Command{
		Use:   "create [DEVICE...]",
		Short: "Hold room on a target and prepare it",
		Long: `Hold room on a target, as kindred claim create does, or take a claim that holds
room already, and have the target make the devices. With --wait the answer comes
when the target is prepared, or will not be.

Exit code: 0 under way, or prepared; 4 aborted, or the devices cannot go there; 5
there is no room; 3 something is not known and was not accepted.`,
		Example: `  kindred migration create 83b8f4f2 --target host-b --wait 30s
  kindred migration create --claim dsfc6r6f3tarphbu`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return runMigrationCreate(cmd, opts, args) },
	}
	opts.server.add(cmd.Flags())
	opts.output.add(cmd)
	opts.want.add(cmd)
	cmd.Flags().StringVar(&opts.claim, "claim", "", "the `CLAIM` that holds the room")
	cmd.Flags().DurationVar(&opts.wait, "wait", 0, "how long to wait until the target is prepared")
	return cmd
}

func runMigrationCreate(cmd *cobra.Command, opts *migrationOptions, devices []string) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	if (opts.claim == "") == (len(devices) == 0) {
		return usage(cmd, errors.New("name the devices, or a claim by --claim"))
	}
	r, err := opts.want.request(cmd, devices)
	if err != nil {
		return err
	}
	request := &api.MigrationRequest{Claim: opts.claim}
	if opts.claim == "" {
		request.ClaimRequest = *r
	}
	c, err := opts.server.need(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	m, err := c.CreateMigration(cmd.Context(), opts.want.key, request)
	if err == nil && opts.wait > 0 {
		m, err = waitPrepared(cmd.Context(), c, m, opts.wait)
	}
	if err != nil {
		return refusal(err)
	}
	if err := opts.output.print(cmd, m, func() { printMigration(cmd, m) }); err != nil {
		return err
	}
	if m.State == api.Aborting || m.State == api.Aborted {
		return &exitError{code: exitNo}
	}
	return nil
}

// waitPrepared waits until the target has the devices, or will not.
func waitPrepared(ctx context.Context, c *client.Client, m *api.Migration, most time.Duration) (*api.Migration, error) {
	end := time.Now().Add(most)
	for late := false; m.State == api.Planned || m.State == api.Claimed; {
		if late {
			return nil, fmt.Errorf("migration %s is %s after %s: see kindred migration show %s", m.ID, m.State, most, m.ID)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		late = time.Now().After(end) // before it is asked: what comes is news then
		var err error
		if m, err = c.Migration(ctx, m.ID); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func newMigrationAbort() *cobra.Command {
	var a api.Abort
	cmd := newOneOf("abort MIGRATION", "Say that the VM stays on the source", `  kindred migration abort dsfc6r6f3tarphbu --reason "not today"
  kindred migration abort dsfc6r6f3tarphbu --rejected "EINVAL while loading"`, func(cmd *cobra.Command, c *client.Client, output *outputFlag, id string) error {
		m, err := c.Abort(cmd.Context(), id, &a)
		if err != nil {
			return refusal(err)
		}
		return output.print(cmd, m, func() { printMigration(cmd, m) })
	})
	cmd.Flags().StringVar(&a.Reason, "reason", "", "why, as `TEXT`")
	cmd.Flags().StringVar(&a.Rejected, "rejected", "", "a driver refused the state, with this `ERROR`: it is put on record as a proof")
	return cmd
}

func newMigrationList() *cobra.Command {
	return newListOf("migrations", "  kindred migration list --all", func(cmd *cobra.Command, c *client.Client, output *outputFlag, all bool) error {
		list, err := c.Migrations(cmd.Context(), all)
		if err != nil {
			return refusal(err)
		}
		if len(list) == 0 {
			list = []api.Migration{}
			cmd.PrintErrln("kindred: no migration is under way")
		}
		return output.print(cmd, list, func() {
			t := newTable("MIGRATION", "STATE", "VM OWNER", "FROM", "TO", "DEVICES ON", "REASON")
			for i := range list {
				m := &list[i]
				t.add(m.ID, string(m.State), orDash(m.Owner), m.Source, orDash(m.Target), m.Host, orDash(m.Reason))
			}
			if len(list) > 0 {
				cmd.Print(t.String())
			}
		})
	})
}

func printMigration(cmd *cobra.Command, m *api.Migration) {
	cmd.Printf("migration %s: %s, %s -> %s", m.ID, m.State, clean(m.Source), clean(orDash(m.Target)))
	if m.Owner != "" {
		cmd.Printf(", for %s", clean(m.Owner))
	}
	cmd.Printf("\nthe devices are %s's", clean(m.Host))
	if m.Claim != "" {
		cmd.Printf(", claim %s", m.Claim)
	}
	if !m.State.Over() {
		cmd.Printf(", until %s", clock(m.Deadline))
	}
	cmd.Println()
	if m.Reason != "" {
		cmd.Println(strings.Join(wrap(clean(m.Reason), 80), "\n"))
	}
	t := newTable("ON "+m.Source, "IS", "ON "+orDash(m.Target), "IS", "DETAIL")
	for i := range m.Devices {
		d := &m.Devices[i]
		t.add(d.Source, orDash(string(d.AtSource)), orDash(d.Target), orDash(string(d.AtTarget)), orDash(d.Detail))
	}
	cmd.Print("\n" + t.String())
}
