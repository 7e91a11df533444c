// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/spf13/cobra"

	"kindred/api"
	"kindred/client"
)

func newHost() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "host",
		Short: "Show the hosts that report to a server",
		Example: `  kindred host list
  kindred host show host-a`,
		Args: cobra.ArbitraryArgs,
		RunE: needsSubcommand,
	}
	cmd.AddCommand(newHostList(), newHostShow(), newHostLost(), newOneOf("forget HOST", "Forget a host that is no more", "  kindred host forget host-z", forgetHost))
	return cmd
}

type hostOptions struct {
	server serverFlags
	output outputFlag
}

func newHostList() *cobra.Command {
	opts := new(hostOptions)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the hosts that have reported",
		Long: `List the hosts that have reported to the server, by name. MODE is what the host's
agent may do: observe writes nothing, manage makes and removes devices for
migrations. CLAIMS is how many claims hold room on the host.`,
		Example: `  kindred host list
  kindred host list -o json | jq -r '.[] | select(.state != "reporting").name'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runHostList(cmd, opts) },
	}
	opts.server.add(cmd.Flags())
	opts.output.add(cmd)
	return cmd
}

func runHostList(cmd *cobra.Command, opts *hostOptions) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	c, err := opts.server.need(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	hosts, err := c.Hosts(cmd.Context())
	if err != nil {
		return refusal(err)
	}
	if len(hosts) == 0 {
		cmd.PrintErrln("kindred: no host has reported to this server")
		hosts = []api.Host{}
	}
	return opts.output.print(cmd, hosts, func() {
		t := newTable("HOST", "STATE", "MODE", "KERNEL", "PARENTS", "TYPES", "DEVICES", "CLAIMS")
		t.expect(len(hosts))
		for i := range hosts {
			h := &hosts[i]
			t.add(h.Name, hostState(h), string(h.Mode), orDash(h.Kernel.Text()), number(h.Parents), number(h.Types), number(h.Devices), number(h.Claims))
		}
		if len(hosts) > 0 {
			cmd.Print(t.String())
		}
	})
}

// hostState is a host's state, and for how long it is silent.
func hostState(h *api.Host) string {
	if h.State == api.Reporting {
		return string(h.State)
	}
	return "silent for " + time.Since(h.Since).Truncate(time.Second).String()
}

func newHostLost() *cobra.Command {
	cmd := newOneOf("lost HOST", "Say that a silent host is gone for good", "  kindred host lost host-z", loseHost)
	cmd.Long = `Say that a host that does not report is gone for good, and that no VM runs on it
any more. Migrations that wait for it end: what the host was to remove counts as
removed. If it comes back all the same, what it has is as it was when it went;
look at its devices before a VM runs there.`
	return cmd
}

// loseHost has nothing wait for a host any more.
func loseHost(cmd *cobra.Command, c *client.Client, _ *outputFlag, name string) error {
	if err := c.Lost(cmd.Context(), name); err != nil {
		return refusal(err)
	}
	cmd.PrintErrf("kindred: nothing waits for %s any more\n", clean(name))
	return nil
}

// forgetHost has a host deleted on which nothing is under way.
func forgetHost(cmd *cobra.Command, c *client.Client, _ *outputFlag, name string) error {
	if err := c.Forget(cmd.Context(), name); err != nil {
		return refusal(err)
	}
	cmd.PrintErrln("kindred: host " + clean(name) + " is forgotten until it reports again")
	return nil
}

func newHostShow() *cobra.Command {
	opts := new(hostOptions)
	cmd := &cobra.Command{
		Use:   "show HOST",
		Short: "Show what a host reported",
		Long: `Show what a host reported last, as kindred inspect does on the host itself. With
-o json it is the inventory, as kindred inspect -o json writes it.`,
		Example: `  kindred host show host-a
  kindred host show host-a -o json > host-a.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runHostShow(cmd, opts, args[0]) },
	}
	opts.server.add(cmd.Flags())
	opts.output.add(cmd)
	return cmd
}

func runHostShow(cmd *cobra.Command, opts *hostOptions, name string) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	c, err := opts.server.need(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	h, err := c.Host(cmd.Context(), name)
	if err != nil {
		return refusal(err)
	}
	if h.State != api.Reporting {
		cmd.PrintErrln("kindred: warning: host " + clean(name) + " does not report since " + h.Since.Local().Format(time.DateTime) + ": this is old")
	}
	for _, id := range h.Leftover {
		cmd.PrintErrln("kindred: warning: device " + clean(id) + " was made for a claim that the server does not know of; kindred device stop " + clean(id) + " on the host, if it is of no use")
	}
	warn(cmd, h.Inventory)
	return printInspected(cmd, &opts.output, h.Inventory)
}
