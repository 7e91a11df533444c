// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime/debug"

	"github.com/spf13/cobra"

	"kindred/compat"
	"kindred/compat/proofs"
	"kindred/inventory"
	"kindred/stream"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version and the formats this program reads",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.Printf("kindred %s\nreads %s, %s, %s, %s\n", ownVersion(), inventory.Schema, compat.CatalogSchema, proofs.Schema, stream.Schema)
			return nil
		},
	}
}

// ownVersion is what this program was built from.
func ownVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			version += " " + s.Value[:min(12, len(s.Value))]
		}
	}
	return version
}
