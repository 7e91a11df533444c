// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"kindred/host"
	"kindred/host/uevent"
	"kindred/inventory"
)

func newWatch() *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Print parents and devices as they come and go",
		Long: `Print the parents and devices of this host, then those that come, go and change,
until it is interrupted. The kernel tells of them; what there is, is read anew
each time, so that nothing is missed when the kernel tells more than can be
heard: then a line says "rescanned".

With -o json every line is a JSON object.`,
		Example: `  kindred watch
  kindred watch -o json | jq -r 'select(.device).device.id'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runWatch(cmd, format) },
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "output `FORMAT`: table or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// runWatch prints as it goes: its answer has no end.
func runWatch(cmd *cobra.Command, format string) error {
	line := tableLine
	switch format {
	case "table":
	case "json":
		line = jsonLine
	default:
		return usage(cmd, fmt.Errorf("unknown output format %q: it is one of table, json", format))
	}
	events, err := uevent.Listen() // before the host is read, so that nothing is missed
	if err != nil {
		return err
	}
	defer events.Close()
	h, err := openHost("/")
	if err != nil {
		return err
	}
	defer h.Close()
	return lasting(cmd, func(ctx context.Context, each func(*host.Change) error) error {
		return h.Watch(ctx, events, func(c host.Change) error { return each(&c) })
	}, line)
}

func jsonLine(c *host.Change) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(c)
	return harmless(b.String()), err
}

// tableLine has columns of a fixed width: what comes is not known.
func tableLine(c *host.Change) (string, error) {
	var kind, name, parent, typ string
	switch {
	case c.Parent != nil:
		kind, name, parent, typ = "parent", c.Parent.Name, "-", typesText(c.Parent)
	case c.Device != nil:
		kind, name, parent, typ = "device", c.Device.ID, c.Device.Parent, typeText(c.Device.Type)
	default:
		kind, name, parent, typ = "-", "events were lost", "-", "-"
	}
	return fmt.Sprintf("%s  %-9s  %-6s  %-36s  %-12s  %s\n", c.Time.Local().Format("15:04:05"), c.Event, kind, clean(name), clean(parent), clean(typ)), nil
}

func typesText(p *inventory.Parent) string {
	if len(p.Types) == 1 {
		return p.Types[0].Full()
	}
	return plural(len(p.Types), "type")
}
