// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"kindred/compat"
)

func newReason() *cobra.Command {
	return &cobra.Command{
		Use:   "reason [CODE]",
		Short: "Explain the codes of findings",
		Example: `  kindred reason
  kindred reason build.unproven`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var codes []string
			for _, c := range compat.Codes() {
				codes = append(codes, string(c)+"\t"+c.Meaning())
			}
			return codes, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			t := newTable("CODE", "MEANING", "WHAT WOULD CHANGE IT")
			for _, c := range compat.Codes() {
				if len(args) == 1 && string(c) == args[0] {
					cmd.Printf("%s: %s\n", c, c.Meaning())
					if c.Remedy() != "" {
						cmd.Printf("What would change it: %s\n", c.Remedy())
					}
					return nil
				}
				t.add(string(c), c.Meaning(), c.Remedy())
			}
			if len(args) == 1 {
				return &exitError{exitNoSuch, fmt.Errorf("no code %q; kindred reason lists them", args[0])}
			}
			cmd.Print(t.String())
			return nil
		},
	}
}
