// SPDX-License-Identifier: Apache-2.0

//go:build linux

package placement

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"

	"kindred/bench/fleets"
	"kindred/inventory"
)

// Placement's numbers of what is not its own begin here.
const (
	firstClass = 10_000
	firstTrait = 100_000
)

// class is a type's resource class.
func class(t inventory.TypeName) string {
	return "CUSTOM_" + strings.ToUpper(t.Namespace+"_"+t.Name)
}

// trait is that of a make of hosts, by its number.
func trait(n int) string { return fmt.Sprintf("CUSTOM_MAKE_%d", n) }

// uuid is that of a host, and which host one is of.
func uuid(host int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", host) }

// fill writes a fleet into an empty database.
func fill(ctx context.Context, file string, made *fleets.Fleet) error {
	load := exec.CommandContext(ctx, python, "-c", "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.stdin.read())", file)
	in, err := load.StdinPipe()
	if err != nil {
		return err
	}
	var said strings.Builder
	load.Stderr = &said
	if err := load.Start(); err != nil {
		return fmt.Errorf("fill Placement's database: %w", err)
	}
	out := bufio.NewWriterSize(in, 1<<20)
	write(out, made)
	if err := errors.Join(out.Flush(), in.Close(), load.Wait()); err != nil {
		return fmt.Errorf("fill Placement's database: %w: %s", err, said.String())
	}
	return nil
}

// write writes SQL. Its errors come out of the buffer below.
func write(out io.Writer, made *fleets.Fleet) {
	row := func(table, columns, format string, values ...any) {
		fmt.Fprintf(out, "INSERT INTO %s (%s) VALUES (%s);\n", table, columns, fmt.Sprintf(format, values...))
	}
	fmt.Fprintln(out, "BEGIN;")
	classes := make(map[inventory.TypeName]int)
	for n, static := range made.Statics {
		row("traits", "id, name", "%d, '%s'", firstTrait+n, trait(n))
		for _, t := range static.Parents[0].Types {
			if classes[t.TypeName] == 0 {
				classes[t.TypeName] = firstClass + len(classes)
				row("resource_classes", "id, name", "%d, '%s'", classes[t.TypeName], class(t.TypeName))
			}
		}
	}
	id := 0
	for i := range made.Size.Hosts {
		own := made.Host(i)
		n := slices.Index(made.Digests, own.Static)
		id++
		root := id
		row("resource_providers", "id, uuid, name, generation, root_provider_id", "%d, '%s', '%s', 1, %d", root, uuid(i), own.Host, root)
		at := 0
		for p, parent := range made.Statics[n].Parents {
			id++
			row("resource_providers", "id, uuid, name, generation, root_provider_id, parent_provider_id", "%d, '%08x-0001-4000-8000-%012x', '%s_%s', 1, %d, %d",
				id, i, p, own.Host, parent.Name, root, root)
			row("resource_provider_traits", "trait_id, resource_provider_id", "%d, %d", firstTrait+n, id)
			for _, t := range parent.Types {
				if count := own.Available[at]; count > 0 {
					row("inventories", "resource_provider_id, resource_class_id, total, reserved, min_unit, max_unit, step_size, allocation_ratio",
						"%d, %d, %d, 0, 1, %d, 1, 1.0", id, classes[t.TypeName], count, count)
				}
				at++
			}
		}
	}
	fmt.Fprintln(out, "COMMIT;")
}
