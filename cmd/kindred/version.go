// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime/debug"

	"github.com/spf13/cobra"

	"kindred/compat"
	"kindred/inventory"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version and the formats this program reads",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			version := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						version += " " + s.Value[:min(12, len(s.Value))]
					}
				}
			}
			cmd.Printf("kindred %s\nreads %s, %s\n", version, inventory.Schema, compat.CatalogSchema)
			return nil
		},
	}
}
