// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"kindred/api"
	"kindred/client"
	"kindred/compat"
	"kindred/fleet"
)

type whatIfOptions struct {
	server   serverFlags
	files    inputFlags
	catalogs catalogFlags
	proofs   proofFlags
	output   outputFlag
	change   changeFlags
	add      []string
	under    string
}

func newWhatIf() *cobra.Command {
	opts := new(whatIfOptions)
	cmd := &cobra.Command{
		Use:   "whatif CHANGES [--inventory FILES]",
		Short: "Show whom a change would strand, before it is made",
		Long: `Show what would become of all devices if hosts were changed: which would be
stranded, with no host left that is ready and has room; which would be freed;
and which canaries would settle what would be unknown. A pair that waits for a
proof waits for one alone, so those listed are the smallest set that settles
all; the ones marked as enough are the fewest that free every stranded device
that canaries can free. Nothing is changed but in thought.

Without --inventory a server is asked, where one is known: about the hosts that
report, and the room that claims leave.

Exit code: 0 nothing would be stranded, 4 something would.`,
		Example: `  kindred whatif --inventory fleet/ --build 'host-a:mtty=5f3c9a'
  kindred whatif --inventory fleet/ --remove-host 'rack7-*'
  kindred whatif --inventory fleet/ --firmware 'host-*/0000:41:00.0:fw.version=22.41.1000'
  kindred whatif --inventory fleet/ --add new-host.json --under ./catalogs`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.files.addArgs(cmd, args); err != nil {
				return err
			}
			return runWhatIf(cmd, opts)
		},
	}
	opts.server.add(cmd.Flags())
	opts.files.addFiles(cmd.Flags())
	opts.catalogs.add(cmd.Flags())
	opts.proofs.add(cmd.Flags())
	opts.output.add(cmd)
	opts.change.add(cmd.Flags())
	opts.change.addRemovals(cmd.Flags())
	cmd.Flags().StringSliceVar(&opts.add, "add", nil, "add the hosts of inventory `FILES`")
	cmd.Flags().StringVar(&opts.under, "under", "", "judge under the catalogs of another `DIR`")
	return cmd
}

func runWhatIf(cmd *cobra.Command, opts *whatIfOptions) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	changes, err := opts.change.changes(cmd)
	if err != nil {
		return err
	}
	if len(changes) == 0 && len(opts.add) == 0 && opts.under == "" {
		return usage(cmd, errors.New("a change is needed: --build, --kernel, --firmware, --fact, --add, --remove-host, --remove-parent or --under"))
	}
	add, err := readFiles(opts.add)
	if err != nil {
		return err
	}
	c, err := opts.server.instead(cmd, opts.files.inventories)
	if err != nil {
		return err
	}
	if c != nil {
		defer c.Close()
		return askWhatIf(cmd, opts, c, &api.WhatIfRequest{Changes: changes, Add: add})
	}
	s := fleet.Supposition{Changes: changes, Add: add}
	if opts.under != "" {
		if s.Engine, err = openEngine(cmd, &catalogFlags{dir: opts.under}, &opts.proofs); err != nil {
			return err
		}
	}
	f, err := openFleet(cmd, opts.files.inventories, &opts.catalogs, &opts.proofs)
	if err != nil {
		return err
	}
	answer, err := f.WhatIf(s)
	if err != nil {
		return noSuch(err)
	}
	return showWhatIf(cmd, opts, answer)
}

// askWhatIf has a server answer.
func askWhatIf(cmd *cobra.Command, opts *whatIfOptions, c *client.Client, r *api.WhatIfRequest) error {
	if opts.under != "" {
		flags := catalogFlags{dir: opts.under}
		if _, err := flags.load(); err != nil { // what is wrong is said with the file's own path
			return err
		}
		files, err := flags.files()
		if err != nil {
			return err
		}
		r.Under = &api.SiteCatalogs{Catalogs: []api.CatalogText{}}
		for _, name := range files {
			data, err := readBounded(name, maxCatalog)
			if err != nil {
				return &exitError{exitInput, fmt.Errorf("catalog: %w", err)}
			}
			r.Under.Catalogs = append(r.Under.Catalogs, api.CatalogText{Name: name, Text: string(data)})
		}
	}
	answer, err := c.WhatIf(cmd.Context(), r)
	if err != nil {
		return refusal(err)
	}
	return showWhatIf(cmd, opts, answer)
}

func showWhatIf(cmd *cobra.Command, opts *whatIfOptions, answer *fleet.WhatIf) error {
	if err := opts.output.print(cmd, answer, func() { printWhatIf(cmd, answer) }); err != nil {
		return err
	}
	if len(answer.Stranded) > 0 {
		return &exitError{code: exitNo}
	}
	return nil
}

func printWhatIf(cmd *cobra.Command, answer *fleet.WhatIf) {
	printOrigin(cmd, answer.Simulated, answer.Silent)
	for _, c := range answer.Changes {
		cmd.Println("If " + clean(c) + ":")
	}
	cmd.Printf("%s: %d stranded, %d freed, %d with fewer hosts, %d with more, %d gone.\n",
		counted(answer.Devices[0], "device"), len(answer.Stranded), len(answer.Freed), answer.Fewer, answer.More, len(answer.Gone))
	printTurns(cmd, "Stranded", answer.Stranded)
	printTurns(cmd, "Freed", answer.Freed)
	if len(answer.Gone) > 0 {
		cmd.Println("\nGone: " + clean(strings.Join(answer.Gone, ", ")))
	}
	printCanaries(cmd, answer.Canaries)
}

func printTurns(cmd *cobra.Command, title string, list []fleet.DeviceTurn) {
	if len(list) == 0 {
		return
	}
	t := newTable("DEVICE", "HOST", "READY", "UNKNOWN")
	for _, d := range list {
		t.add(d.Device, d.Host, fmt.Sprintf("%d -> %d", d.Ready[0], d.Ready[1]), fmt.Sprintf("%d -> %d", d.Unknown[0], d.Unknown[1]))
	}
	cmd.Printf("\n%s:\n%s", title, t.String())
}

func printCanaries(cmd *cobra.Command, list []fleet.Canary) {
	if len(list) == 0 {
		return
	}
	t := newTable("CANARY", "FROM", "TO", "DEVICES", "FREES", "ENOUGH", "BUILDS")
	for i := range list {
		c := &list[i]
		what := typeText(c.SourceType)
		if c.TargetType != c.SourceType {
			what += " -> " + typeText(c.TargetType)
		}
		enough := "-"
		if c.Enough {
			enough = "yes"
		}
		builds := c.SourceBuild + " -> " + c.TargetBuild
		if c.Canaries == compat.CanariesUnsafe {
			builds += " (the catalog says that canaries are unsafe)"
		}
		t.add(what, c.From, c.To, fmt.Sprint(c.Devices), fmt.Sprint(c.Frees), enough, builds)
	}
	cmd.Printf("\nCanaries that would settle what is unknown:\n%s", t.String())
}
