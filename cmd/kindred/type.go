// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"kindred/inventory"
)

type listOptions struct {
	input  inputFlags
	output outputFlag
	parent string
}

func (o *listOptions) add(cmd *cobra.Command) {
	o.input.add(cmd.Flags())
	o.output.add(cmd)
	cmd.Flags().StringVarP(&o.parent, "parent", "p", "", "only those of this `PARENT`")
}

func newType() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "type",
		Short: "Show the types that parents offer",
		Args:  cobra.ArbitraryArgs,
		RunE:  needsSubcommand,
	}
	opts := new(listOptions)
	list := &cobra.Command{
		Use:   "list",
		Short: "List the types that parents offer, with room",
		Long: `List the types that parents offer. ROOM is how many more instances the kernel
says it would create; types of one parent often share a pool. A dash is "not
known".`,
		Example: `  kindred type list
  kindred type list --parent 0000:41:00.0
  kindred type list --inventory host-a.json,host-b.json -o json`,
		Args: cobra.ArbitraryArgs, // more inventory files
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.input.addArgs(cmd, args); err != nil {
				return err
			}
			return runList(cmd, opts, true, func(invs []*inventory.Inventory) any { return typeRows(invs) },
				func(invs []*inventory.Inventory) *table { return typeTable(invs) }, "types", nothingHere)
		},
	}
	opts.add(list)
	cmd.AddCommand(list)
	return cmd
}

// runList reads what a listing shows and prints it.
func runList(cmd *cobra.Command, opts *listOptions, types bool, rows func([]*inventory.Inventory) any, asTable func([]*inventory.Inventory) *table, what, empty string) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	if len(opts.input.inventories) > 0 && cmd.Flags().Changed("root") {
		return usage(cmd, errors.New("--inventory and --root exclude each other"))
	}
	inventories, err := opts.read(cmd, types)
	if err != nil {
		return err
	}
	for _, inv := range inventories {
		opts.filter(inv)
	}
	var value any
	if opts.output.format != "table" {
		value = rows(inventories)
	}
	return opts.output.print(cmd, value, func() {
		t := asTable(inventories)
		if len(t.rows) == 1 {
			cmd.PrintErrln("kindred: " + clean(oneLine(opts.none(inventories, what, empty))))
			return
		}
		_, _ = io.WriteString(cmd.OutOrStdout(), t.String())
	})
}

// none is what to say instead of an empty table.
func (o *listOptions) none(inventories []*inventory.Inventory, what, empty string) string {
	if o.parent != "" {
		return "no " + what + " of a parent " + o.parent
	}
	return "no " + what + ": " + nothing(inventories, empty)
}

func (o *listOptions) read(cmd *cobra.Command, types bool) ([]*inventory.Inventory, error) {
	if len(o.input.inventories) > 0 {
		return readFiles(o.input.inventories)
	}
	h, err := openHost(o.input.root)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	inv := h.List(types, !types)
	warn(cmd, inv)
	return []*inventory.Inventory{inv}, nil
}

// filter leaves the parent that was asked for, if one was.
func (o *listOptions) filter(inv *inventory.Inventory) {
	if o.parent == "" {
		return
	}
	var parents []inventory.Parent
	var devices []inventory.Device
	for _, p := range inv.Parents {
		if p.Name == o.parent {
			parents = append(parents, p)
		}
	}
	for _, d := range inv.Devices {
		if d.Parent == o.parent {
			devices = append(devices, d)
		}
	}
	inv.Parents, inv.Devices = parents, devices
}

// typeRow is one line of type list, as data.
type typeRow struct {
	Host   string `json:"host"`
	Parent string `json:"parent"`
	inventory.Type
}

func typeRows(inventories []*inventory.Inventory) []typeRow {
	rows := []typeRow{}
	for _, inv := range inventories {
		for i := range inv.Parents {
			for _, t := range inv.Parents[i].Types {
				rows = append(rows, typeRow{inv.Host.Name, inv.Parents[i].Name, t})
			}
		}
	}
	return rows
}

func typeTable(inventories []*inventory.Inventory) *table {
	header := []string{"PARENT", "TYPE", "API", "ROOM", "LABEL"}
	if len(inventories) > 1 {
		header = append([]string{"HOST"}, header...)
	}
	t := newTable(header...)
	rows := 0
	for _, inv := range inventories {
		for i := range inv.Parents {
			rows += len(inv.Parents[i].Types)
		}
	}
	t.expect(rows)
	for _, inv := range inventories {
		for i := range inv.Parents {
			p := &inv.Parents[i]
			for j := range p.Types {
				typ := &p.Types[j]
				row := []string{inv.Host.Name, p.Name, typ.Full(), dash(typ.DeviceAPI), roomText(typ.Available), dash(typ.Label)}
				t.add(row[len(row)-len(header):]...)
			}
		}
	}
	return t
}

func roomText(n *int) string {
	if n == nil {
		return "-"
	}
	return strconv.Itoa(*n)
}

// dash is the value, or "-" for what is absent or not observed.
func dash(v inventory.Value) string {
	if text, ok := v.Get(); ok && text != "" {
		return text
	}
	return "-"
}
