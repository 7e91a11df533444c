// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"kindred/compat"
	"kindred/fleet"
)

type matrixOptions struct {
	server   serverFlags
	files    inputFlags
	catalogs catalogFlags
	proofs   proofFlags
	output   outputFlag
}

func newMatrix() *cobra.Command {
	opts := new(matrixOptions)
	cmd := &cobra.Command{
		Use:   "matrix [--inventory FILES]",
		Short: "Show which hosts can send to which, type by type",
		Long: `Show, for every type and every ordered pair of hosts, whether a new device of
the type could move from one to the other. It is compatibility alone: room is
left out.

Rows send, columns receive: "yes", "no", "?" for unknown, "." for the host
itself and for hosts that do not offer the type.

Without --inventory a server is asked, where one is known.`,
		Example: `  kindred matrix --inventory host-a.json,host-b.json,host-c.json
  kindred matrix --inventory fleet/ -o json`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.files.addArgs(cmd, args); err != nil {
				return err
			}
			return runMatrix(cmd, opts)
		},
	}
	opts.server.add(cmd.Flags())
	opts.files.addFiles(cmd.Flags())
	opts.catalogs.add(cmd.Flags())
	opts.proofs.add(cmd.Flags())
	opts.output.add(cmd)
	return cmd
}

func runMatrix(cmd *cobra.Command, opts *matrixOptions) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	if c, err := opts.server.instead(cmd, opts.files.inventories); err != nil {
		return err
	} else if c != nil {
		defer c.Close()
		m, err := c.Matrix(cmd.Context())
		if err != nil {
			return refusal(err)
		}
		return opts.output.print(cmd, m, func() { printMatrix(cmd, m) })
	}
	f, err := openFleet(cmd, opts.files.inventories, &opts.catalogs, &opts.proofs)
	if err != nil {
		return err
	}
	m := f.Matrix()
	return opts.output.print(cmd, m, func() { printMatrix(cmd, m) })
}

// printMatrix prints a grid for the types that have the same answers, then the
// reasons, each once. Hosts are numbered in the columns so that many fit.
func printMatrix(cmd *cobra.Command, m *fleet.Matrix) {
	number := make(map[string]int, len(m.Hosts))
	for i, name := range m.Hosts {
		number[name] = i
	}
	var names, grids []string // types with the same grid share one
	for i := range m.Types {
		grid := gridText(m, &m.Types[i], number)
		name := clean(typeText(m.Types[i].Type))
		if n := slices.Index(grids, grid); n >= 0 {
			names[n] += ", " + name
			continue
		}
		names, grids = append(names, name), append(grids, grid)
	}
	for i := range grids {
		if i > 0 {
			cmd.Println()
		}
		cmd.Print(newTable(names[i]).String() + grids[i])
	}
}

func gridText(m *fleet.Matrix, t *fleet.MatrixType, number map[string]int) string {
	header := []string{""}
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
	for _, c := range t.Cells {
		grid[number[c.From]][number[c.To]+1] = short(c.Outcome)
		line := fmt.Sprintf("%s  %s: %s", short(c.Outcome), c.Code, c.Text)
		if c.Outcome != compat.Compatible && !slices.Contains(reasons, line) {
			reasons = append(reasons, line)
		}
	}
	table := newTable(header...)
	for _, row := range grid {
		table.add(row...)
	}
	var b strings.Builder
	b.WriteString(table.String())
	slices.Sort(reasons)
	for _, line := range reasons {
		for n, part := range wrap(clean(line), 76) {
			b.WriteString([2]string{"  ", "     "}[min(n, 1)] + part + "\n")
		}
	}
	return b.String()
}
