// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"kindred/compat"
	"kindred/fleet"
)

func newReason() *cobra.Command {
	return &cobra.Command{
		Use:   "reason [CODE]",
		Short: "Explain the codes of findings",
		Example: `  kindred reason
  kindred reason build.unproven`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var list []string
			for _, c := range everyCode() {
				list = append(list, c.name+"\t"+c.meaning)
			}
			return list, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			t := newTable("CODE", "MEANING")
			for _, c := range everyCode() {
				if len(args) == 1 && c.name == args[0] {
					cmd.Printf("%s: %s\n", c.name, c.meaning)
					if c.remedy != "" {
						cmd.Printf("What would change it: %s\n", c.remedy)
					}
					return nil
				}
				t.add(c.name, c.meaning)
			}
			if len(args) == 1 {
				return &exitError{exitNoSuch, fmt.Errorf("no code %q; kindred reason lists them", args[0])}
			}
			cmd.Print(t.String())
			return nil
		},
	}
}

type code struct{ name, meaning, remedy string }

// everyCode lists the codes of compatibility, room and readiness, and those of
// catalog lint and diff.
func everyCode() []code {
	var list []code
	for _, c := range compat.Codes() {
		list = append(list, code{string(c), c.Meaning(), c.Remedy()})
	}
	for _, c := range fleet.Codes() {
		list = append(list, code{string(c), c.Meaning(), c.Remedy()})
	}
	// Lint and diff find some of the same things before anything is asked.
	for _, c := range append(lintCodes(), diffCodes()...) {
		if !slices.ContainsFunc(list, func(l code) bool { return l.name == c.name }) {
			list = append(list, c)
		}
	}
	return list
}
