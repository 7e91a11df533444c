// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"kindred/inventory"
)

func newDevice() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "device",
		Short: "Show, start and stop devices",
		Args:  cobra.ArbitraryArgs,
		RunE:  needsSubcommand,
	}
	opts := new(listOptions)
	list := &cobra.Command{
		Use:   "list",
		Short: "List devices: mdevs, functions bound to VFIO, vGPUs",
		Example: `  kindred device list
  kindred device list --inventory host-a.json,host-b.json
  kindred device list -o json`,
		Args: cobra.ArbitraryArgs, // more inventory files
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.input.addArgs(cmd, args); err != nil {
				return err
			}
			return runList(cmd, opts, false, func(invs []*inventory.Inventory) any { return deviceRows(invs) },
				func(invs []*inventory.Inventory) *table { return deviceTable(invs, len(opts.input.inventories) > 0) }, "devices", "none was created, and no PCI function is bound to a VFIO driver")
		},
	}
	opts.add(list)
	cmd.AddCommand(list, newDeviceStart(), newDeviceStop(), newDeviceRepair())
	return cmd
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
