// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"kindred/api"
)

type eventsOptions struct {
	server serverFlags
	kinds  []string
	after  int64
	format string
}

func newEvents() *cobra.Command {
	opts := new(eventsOptions)
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Print what changes in the fleet, as it does",
		Long: `Print changes of hosts, devices, claims, migrations, drains and canary orders as they
come, until it is interrupted. REVISION is where to go on: kindred events --after REVISION prints
what came since, also from another server. When that is not kept any more, an
event "reset" says so.`,
		Example: `  kindred events --kinds claim,migration
  kindred events --after 4711 -o json | jq -c .migration`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runEvents(cmd, opts) },
	}
	opts.server.add(cmd.Flags())
	cmd.Flags().StringSliceVar(&opts.kinds, "kinds", nil, "`KINDS` of host, device, claim, migration, canary, drain (all)")
	cmd.Flags().Int64Var(&opts.after, "after", 0, "begin after this `REVISION` (now)")
	cmd.Flags().StringVarP(&opts.format, "output", "o", "table", "output `FORMAT`: table or json, a line each")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func runEvents(cmd *cobra.Command, opts *eventsOptions) error {
	line := eventLine
	switch opts.format {
	case "table":
	case "json":
		line = eventJSON
	default:
		return usage(cmd, fmt.Errorf("unknown output format %q: it is one of table, json", opts.format))
	}
	var kinds []api.EventKind
	for _, k := range opts.kinds {
		if !slices.Contains(api.EventKinds, api.EventKind(k)) {
			return usage(cmd, fmt.Errorf("unknown kind %q: it is one of host, device, claim, migration, canary, drain", k))
		}
		kinds = append(kinds, api.EventKind(k))
	}
	c, err := opts.server.need(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	return refusal(lasting(cmd, func(ctx context.Context, each func(*api.Event) error) error {
		return c.Events(ctx, kinds, opts.after, each)
	}, line))
}

func eventJSON(e *api.Event) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(e)
	return harmless(b.String()), err
}

func eventLine(e *api.Event) (string, error) {
	state := ""
	switch {
	case e.Gone:
		state = "gone"
	case e.Host != nil:
		state = hostState(e.Host)
	case e.Device != nil:
		state = typeText(e.Device.Type) + ", in use: " + string(e.Device.InUse)
	case e.Claim != nil:
		state = claimState(e.Claim) + ", " + e.Claim.Source + " -> " + e.Claim.Target
	case e.Drain != nil:
		state = drainState(e.Drain) + ": " + drainCounts(e.Drain)
	case e.Canary != nil:
		state = string(e.Canary.State) + ", " + canaryText(e.Canary)
		if e.Canary.Reason+e.Canary.Detail != "" {
			state += ": " + string(e.Canary.Result) + " " + e.Canary.Reason + e.Canary.Detail
		}
	case e.Migration != nil:
		state = string(e.Migration.State) + ", the devices are " + e.Migration.Host + "'s"
		if e.Migration.Reason != "" {
			state += ": " + e.Migration.Reason
		}
	}
	return fmt.Sprintf("%d  %-9s  %s  %s\n", e.Revision, e.Kind, clean(e.Name), clean(oneLine(state))), nil
}
