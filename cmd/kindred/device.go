// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"kindred/definition"
	"kindred/host/tree"
	"kindred/inventory"
)

func newDevice() *cobra.Command {
	return &cobra.Command{
		Use:   "device",
		Short: "Show, keep, start and stop devices",
		Args:  cobra.ArbitraryArgs,
		RunE:  needsSubcommand,
	}
}

func newDeviceList() *cobra.Command {
	opts := new(listOptions)
	definedOnly := false
	list := &cobra.Command{
		Use:   "list",
		Short: "List devices: mdevs, functions bound to VFIO, vGPUs",
		Long: `List devices that run: mdevs, functions bound to VFIO, vGPUs. With --defined,
list what is defined to exist instead, and whether it runs.`,
		Example: `  kindred device list
  kindred device list --defined
  kindred device list --inventory host-a.json,host-b.json
  kindred device list -o json`,
		Args: cobra.ArbitraryArgs, // more inventory files
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.input.addArgs(cmd, args); err != nil {
				return err
			}
			if definedOnly {
				return runListDefined(cmd, opts)
			}
			return runList(cmd, opts, false, func(invs []*inventory.Inventory) any { return deviceRows(invs) },
				func(invs []*inventory.Inventory) *table { return deviceTable(invs, len(opts.input.inventories) > 0) }, "devices", "none was created, and no PCI function is bound to a VFIO driver")
		},
	}
	opts.add(list)
	list.Flags().BoolVarP(&definedOnly, "defined", "d", false, "list definitions")
	return list
}

// runListDefined lists definitions, which are this host's.
func runListDefined(cmd *cobra.Command, opts *listOptions) error {
	if err := errors.Join(opts.output.check(cmd), exclude(cmd, "defined", "inventory", "root")); err != nil {
		return err
	}
	h, err := openHost("/")
	if err != nil {
		return err
	}
	defer h.Close()
	running := h.List(false, true)
	return definitions(cmd, func(_ context.Context, store *definition.Store, warn tree.Warn) error {
		rows := []defined{}
		for _, d := range store.Read(definition.Filter{Parent: opts.parent}, warn) {
			rows = append(rows, asData(&d, running.Device(runs(&d))))
		}
		return opts.output.print(cmd, rows, func() {
			if len(rows) == 0 {
				cmd.PrintErrln("kindred: no definitions: see kindred device define --help")
				return
			}
			t := newTable("UUID", "PARENT", "TYPE", "START", "RUNS")
			for _, d := range rows {
				t.add(d.UUID, d.Parent, d.Type, d.Start, d.runsText())
			}
			_, _ = io.WriteString(cmd.OutOrStdout(), t.String())
		})
	})
}

// deviceRow is one line of device list, as data.
type deviceRow struct {
	Host string `json:"host"`
	inventory.Device
}

func deviceRows(inventories []*inventory.Inventory) []deviceRow {
	rows := []deviceRow{}
	for _, inv := range inventories {
		for _, d := range inv.Devices {
			rows = append(rows, deviceRow{inv.Host.Name, d})
		}
	}
	return rows
}

// deviceTable shows who uses the devices only where that was read.
func deviceTable(inventories []*inventory.Inventory, full bool) *table {
	header := []string{"DEVICE", "PARENT", "TYPE"}
	if len(inventories) > 1 {
		header = append([]string{"HOST"}, header...)
	}
	if full {
		header = append(header, "IN USE")
	}
	t := newTable(header...)
	row := make([]string, 0, len(header))
	for _, inv := range inventories {
		t.expect(len(inv.Devices))
		for i := range inv.Devices {
			d := &inv.Devices[i]
			row = row[:0]
			if len(inventories) > 1 {
				row = append(row, inv.Host.Name)
			}
			row = append(row, d.ID, d.Parent, typeText(d.Type))
			if full {
				row = append(row, string(d.InUse))
			}
			t.add(row...)
		}
	}
	return t
}

// typeText is a type's full name; of one whose namespace is unknown, the name.
func typeText(n inventory.TypeName) string {
	switch {
	case n.Name == "":
		return "-"
	case n.Namespace == "":
		return n.Name
	}
	return n.Full()
}
