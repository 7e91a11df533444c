// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"kindred/compat"
	"kindred/fleet"
)

type matrixOptions struct {
	files    inputFlags
	catalogs catalogFlags
	output   outputFlag
}

func newMatrix() *cobra.Command {
	opts := new(matrixOptions)
	cmd := &cobra.Command{
		Use:   "matrix --inventory FILES",
		Short: "Show which hosts can send to which, type by type",
		Long: `Show, for every type and every ordered pair of hosts, whether a new device of
the type could move from one to the other. It is compatibility alone: room is
left out.

Rows send, columns receive: "yes", "no", "?" for unknown, "." for the host
itself and for hosts that do not offer the type.`,
		Example: `  kindred matrix --inventory host-a.json,host-b.json,host-c.json
  kindred matrix --inventory fleet/ -o json`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.files.inventories = append(opts.files.inventories, args...)
			return runMatrix(cmd, opts)
		},
	}
	opts.files.addFiles(cmd.Flags())
	opts.catalogs.add(cmd.Flags())
	opts.output.add(cmd)
	return cmd
}

func runMatrix(cmd *cobra.Command, opts *matrixOptions) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	if len(opts.files.inventories) == 0 {
		return usage(cmd, errors.New("--inventory is needed"))
	}
	f, err := openFleet(opts.files.inventories, &opts.catalogs)
	if err != nil {
		return err
	}
	m := f.Matrix()
	return opts.output.print(cmd, m, func() { printMatrix(cmd, m) })
}

// printMatrix prints a grid for each type, then the reasons, each once. Hosts
// are numbered in the columns so that many of them fit.
func printMatrix(cmd *cobra.Command, m *fleet.Matrix) {
	number := make(map[string]int, len(m.Hosts))
	for i, name := range m.Hosts {
		number[name] = i
	}
	for i := range m.Types {
		t := &m.Types[i]
		header := []string{typeText(t.Type)}
		for n := range m.Hosts {
			header = append(header, fmt.Sprint(n+1))
		}
		grid := make([][]string, len(m.Hosts))
		for row, name := range m.Hosts {
			grid[row] = []string{fmt.Sprintf("%d %s", row+1, name)}
			for range m.Hosts {
				grid[row] = append(grid[row], ".")
			}
		}
		var reasons []string
		seen := make(map[string]bool)
		for _, c := range t.Cells {
			grid[number[c.From]][number[c.To]+1] = map[compat.Outcome]string{compat.Compatible: "yes", compat.Unknown: "?", compat.Incompatible: "no"}[c.Outcome]
			if line := fmt.Sprintf("%s: %s [%s]", c.Outcome, c.Text, c.Code); c.Outcome != compat.Compatible && !seen[line] {
				seen[line] = true
				reasons = append(reasons, line)
			}
		}
		table := newTable(header...)
		for _, row := range grid {
			table.add(row...)
		}
		cmd.Print(table.String())
		for _, line := range reasons {
			for n, part := range wrap(clean(line), 76) {
				cmd.Println([2]string{"  ", "    "}[min(n, 1)] + part)
			}
		}
		cmd.Println()
	}
}
