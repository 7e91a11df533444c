// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"kindred/api"
	"kindred/client"
)

func newCanary() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "canary",
		Short: "Look at the server's canary orders, and cancel them",
		Long: `Look at canary orders: what kindred prove has a server do to prove transfers
between two hosts. An order ends by itself, at its deadline at the latest, also
when nobody waits for it any more.`,
		Example: `  kindred canary list
  kindred canary cancel dsfc6r6f3tarphbu`,
		Args: cobra.ArbitraryArgs,
		RunE: needsSubcommand,
	}
	one := func(use, short string, ask func(*cobra.Command, *client.Client, string) (*api.Canary, error)) *cobra.Command {
		return newOneOf(use+" ORDER", short, "  kindred canary "+use+" dsfc6r6f3tarphbu", func(cmd *cobra.Command, c *client.Client, output *outputFlag, id string) error {
			got, err := ask(cmd, c, id)
			if err != nil {
				return refusal(err)
			}
			return output.print(cmd, got, func() { printCanary(cmd, got) })
		})
	}
	cmd.AddCommand(newCanaryList(),
		one("show", "Show one canary order", func(cmd *cobra.Command, c *client.Client, id string) (*api.Canary, error) {
			return c.Canary(cmd.Context(), id)
		}),
		one("cancel", "End a canary order: the agents remove what they made", func(cmd *cobra.Command, c *client.Client, id string) (*api.Canary, error) {
			return c.CancelCanary(cmd.Context(), id)
		}))
	return cmd
}

func newCanaryList() *cobra.Command {
	return newListOf("canary orders", "  kindred canary list --all", func(cmd *cobra.Command, c *client.Client, output *outputFlag, all bool) error {
		list, err := c.Canaries(cmd.Context(), all)
		if err != nil {
			return refusal(err)
		}
		if len(list) == 0 {
			list = []api.Canary{}
			cmd.PrintErrln("kindred: no canary order is under way")
		}
		return output.print(cmd, list, func() {
			t := newTable("ORDER", "STATE", "TYPE", "FROM", "IS", "TO", "IS", "RESULT")
			for i := range list {
				c := &list[i]
				result := string(c.Result)
				if result == "" {
					result = string(c.Code)
				}
				t.add(c.ID, string(c.State), c.From.Type.Full(), c.From.Host+": "+c.From.Parent, orDash(string(c.From.Phase)), c.To.Host+": "+c.To.Parent, orDash(string(c.To.Phase)), orDash(result))
			}
			if len(list) > 0 {
				cmd.Print(t.String())
			}
		})
	})
}

func printCanary(cmd *cobra.Command, c *api.Canary) {
	types := c.From.Type.Full()
	if c.To.Type != c.From.Type {
		types += " as " + c.To.Type.Full()
	}
	cmd.Printf("canary order %s: %s, %s, by %s\n", c.ID, c.State, clean(types), clean(c.By))
	if !c.State.Over() {
		cmd.Printf("until %s, begun %s\n", clock(c.Deadline), plural(c.Begun, "time"))
	}
	for _, text := range []string{string(c.Code), c.Reason, strings.TrimSpace(string(c.Result) + " " + c.Grade), c.Detail} {
		if text != "" {
			cmd.Println(strings.Join(wrap(clean(text), 80), "\n"))
		}
	}
	if c.Proof != "" {
		cmd.Println("kept as " + clean(c.Proof))
	}
	t := newTable("END", "HOST", "PARENT", "PHASE", "CLEAR")
	for _, end := range []struct {
		name string
		*api.CanaryEnd
	}{{"source", &c.From}, {"target", &c.To}} {
		t.add(end.name, end.Host, end.Parent, orDash(string(end.Phase)), strconv.FormatBool(end.Clear))
	}
	cmd.Print("\n" + t.String())
}
