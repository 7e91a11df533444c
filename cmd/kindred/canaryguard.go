// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"kindred/prove"
)

// newCanaryGuard is for kindred itself: prove.Guard starts it.
func newCanaryGuard() *cobra.Command {
	return &cobra.Command{
		Use:     prove.GuardCommand,
		Short:   "Remove canaries when the process at the other end of stdin is gone",
		Example: "  " + prove.GuardCommand + " is started by kindred itself, never by hand",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return prove.RunGuard(cmd.Context(), cmd.InOrStdin()) },
	}
}
