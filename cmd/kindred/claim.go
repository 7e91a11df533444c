// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kindred/api"
	"kindred/client"
	"kindred/fleet"
)

func newClaim() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "claim",
		Short: "Hold room on a target for the devices of one owner",
		Example: `  kindred claim create 83b8f4f2 --target host-b
  kindred claim list`,
		Args: cobra.ArbitraryArgs,
		RunE: needsSubcommand,
	}
	show := func(use, short string, ask func(context.Context, *client.Client, string) (*api.Claim, error)) *cobra.Command {
		return newOneOf(use+" CLAIM", short, "  kindred claim "+use+" dsfc6r6f3tarphbu", func(cmd *cobra.Command, c *client.Client, output *outputFlag, id string) error {
			claim, err := ask(cmd.Context(), c, id)
			if err != nil {
				return refusal(err)
			}
			return output.print(cmd, claim, func() { printClaim(cmd, claim) })
		})
	}
	cmd.AddCommand(newClaimCreate(), newClaimList(), newClaimRenew(),
		show("show", "Show one claim", func(ctx context.Context, c *client.Client, id string) (*api.Claim, error) { return c.Claim(ctx, id) }),
		show("release", "Give a claim's room back", func(ctx context.Context, c *client.Client, id string) (*api.Claim, error) { return c.Release(ctx, id) }))
	return cmd
}

// newOneOf makes a command that asks a server about one thing.
func newOneOf(use, short, example string, run func(*cobra.Command, *client.Client, *outputFlag, string) error) *cobra.Command {
	opts := new(hostOptions)
	cmd := &cobra.Command{
		Use: use, Short: short, Example: example, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.output.check(cmd); err != nil {
				return err
			}
			c, err := opts.server.need(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			return run(cmd, c, &opts.output, args[0])
		},
	}
	opts.server.add(cmd.Flags())
	opts.output.add(cmd)
	return cmd
}

// wantFlags say what is to be claimed.
type wantFlags struct {
	target, policy, owner, key string
	ttl                        time.Duration
	accept                     []string
	reason, until              string
}

func (f *wantFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.target, "target", "", "the `HOST` to go to (the first by --policy that takes all)")
	fs.StringVar(&f.owner, "owner", "", "`NAME` of whose devices they are, such as the VM's")
	fs.StringVar(&f.key, "key", "", "the same request with the same `KEY` makes one thing, not two")
	f.addTerms(cmd)
}

// addTerms adds what is asked of a claim whose devices and target are known.
func (f *wantFlags) addTerms(cmd *cobra.Command) {
	fs := cmd.Flags()
	addPolicy(cmd, &f.policy, fleet.ByName)
	fs.DurationVar(&f.ttl, "ttl", 0, "how long the room is held (the server's default)")
	fs.StringSliceVar(&f.accept, "accept-unknown", nil, "accept that something is not known, by its `CODE`; needs --reason")
	fs.StringVar(&f.reason, "reason", "", "why, as `TEXT`; it is put on record with your name")
	fs.StringVar(&f.until, "until", "", "accept it until a `TIME`: 2026-01-31T18:00:00Z (as long as the claim)")
}

// request is what the flags ask for.
func (f *wantFlags) request(cmd *cobra.Command, devices []string) (*api.ClaimRequest, error) {
	if err := checkPolicy(cmd, f.policy); err != nil {
		return nil, err
	}
	r := &api.ClaimRequest{Target: f.target, Policy: fleet.Policy(f.policy), Owner: f.owner, TTL: api.Duration(f.ttl)}
	for _, text := range devices {
		r.Devices = append(r.Devices, strings.Split(text, ",")...)
	}
	if (len(f.accept) > 0) != (f.reason != "") {
		return nil, usage(cmd, errors.New("--accept-unknown and --reason go together"))
	}
	var until time.Time
	if f.until != "" {
		var err error
		if until, err = time.Parse(time.RFC3339, f.until); err != nil || len(f.accept) == 0 {
			return nil, usage(cmd, fmt.Errorf("--until %q is no time such as 2026-01-31T18:00:00Z, or goes with no --accept-unknown", f.until))
		}
	}
	for _, code := range f.accept {
		r.Accept = append(r.Accept, api.Acceptance{Code: code, Reason: f.reason, Until: until})
	}
	return r, nil
}

type claimOptions struct {
	hostOptions
	want wantFlags
}

func newClaimCreate() *cobra.Command {
	opts := new(claimOptions)
	cmd := &cobra.Command{
		Use:   "create DEVICE...",
		Short: "Hold room on a target for all of the devices, or for none",
		Long: `Hold room on a target for all devices of one owner at once, until the claim's
deadline. The answer says what each device gets there: the parent, the type, the
new id, attributes to be set.

Exit code: 0 the room is held, 5 there is none, 3 something is not known and was
not accepted, 4 the devices cannot go there.`,
		Example: `  kindred claim create 83b8f4f2 --target host-b
  kindred claim create 83b8f4f2 83b8f4f3 --owner vm-17 --policy pack --ttl 30m
  kindred claim create 83b8f4f2 --accept-unknown build.unproven --reason "tried by hand"`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runClaimCreate(cmd, opts, args) },
	}
	opts.server.add(cmd.Flags())
	opts.output.add(cmd)
	opts.want.add(cmd)
	return cmd
}

func runClaimCreate(cmd *cobra.Command, opts *claimOptions, devices []string) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	r, err := opts.want.request(cmd, devices)
	if err != nil {
		return err
	}
	c, err := opts.server.need(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	claim, err := c.CreateClaim(cmd.Context(), opts.want.key, r)
	if err != nil {
		return refusal(err)
	}
	return opts.output.print(cmd, claim, func() { printClaim(cmd, claim) })
}

func newClaimRenew() *cobra.Command {
	var ttl time.Duration
	cmd := newOneOf("renew CLAIM", "Move a claim's deadline", `  kindred claim renew dsfc6r6f3tarphbu --ttl 30m`, func(cmd *cobra.Command, c *client.Client, output *outputFlag, id string) error {
		claim, err := c.Renew(cmd.Context(), id, &api.Renewal{TTL: api.Duration(ttl)})
		if err != nil {
			return refusal(err)
		}
		return output.print(cmd, claim, func() { printClaim(cmd, claim) })
	})
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "how long the room is held from now on (the server's default)")
	return cmd
}

func newClaimList() *cobra.Command {
	return newListOf("claims", "  kindred claim list --all -o json", func(cmd *cobra.Command, c *client.Client, output *outputFlag, all bool) error {
		list, err := c.Claims(cmd.Context(), all)
		if err != nil {
			return refusal(err)
		}
		if len(list) == 0 {
			list = []api.Claim{}
			cmd.PrintErrln("kindred: no claim holds room")
		}
		return output.print(cmd, list, func() {
			t := newTable("CLAIM", "STATE", "OWNER", "FROM", "TO", "DEVICES", "UNTIL")
			for i := range list {
				c := &list[i]
				t.add(c.ID, claimState(c), orDash(c.Owner), c.Source, c.Target, number(len(c.Devices)), clock(c.Deadline))
			}
			if len(list) > 0 {
				cmd.Print(t.String())
			}
		})
	})
}

// newListOf makes a command that lists things that end.
func newListOf(what, example string, run func(*cobra.Command, *client.Client, *outputFlag, bool) error) *cobra.Command {
	opts := new(hostOptions)
	all := false
	cmd := &cobra.Command{
		Use: "list", Short: "List " + what, Example: example, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.output.check(cmd); err != nil {
				return err
			}
			c, err := opts.server.need(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			return run(cmd, c, &opts.output, all)
		},
	}
	opts.server.add(cmd.Flags())
	opts.output.add(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "also those that are over")
	return cmd
}

func claimState(c *api.Claim) string {
	if c.State == api.Ended {
		return string(c.End)
	}
	return string(c.State)
}

func number(n int) string { return strconv.Itoa(n) }

// clock is a time as people read it, here.
func clock(t time.Time) string { return t.Local().Format(time.DateTime) }

func printClaim(cmd *cobra.Command, c *api.Claim) {
	cmd.Printf("claim %s: %s, %s -> %s", c.ID, claimState(c), clean(c.Source), clean(c.Target))
	if c.Owner != "" {
		cmd.Printf(", for %s", clean(c.Owner))
	}
	cmd.Printf("\nuntil %s, fence %d, by %s\n", clock(c.Deadline), c.Fence, clean(c.By))
	if c.Migration != "" {
		cmd.Printf("migration %s\n", c.Migration)
	}
	for _, a := range c.Accepted {
		cmd.Printf("accepted by %s: %s: %s\n", clean(a.By), clean(a.Code), clean(a.Reason))
	}
	if c.Estimate {
		cmd.Println("The room is an estimate: no catalog says how these types share a parent.")
	}
	t := newTable("DEVICE", "CREATE", "PARENT", "AS", "SET")
	for i := range c.Devices {
		d := &c.Devices[i]
		var set []string
		for _, a := range d.Copy {
			set = append(set, a.Name+"="+a.Value)
		}
		as := d.Device
		if as == "" {
			as = "(the agent picks one)"
		}
		t.add(d.Source, d.Type.Full(), d.Parent, as, orDash(strings.Join(set, " ")))
	}
	cmd.Print("\n" + t.String())
}
