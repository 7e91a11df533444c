// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"kindred/compat"
	"kindred/host"
	"kindred/host/record"
	"kindred/inventory"
)

type inspectOptions struct {
	input    inputFlags
	catalogs catalogFlags
	output   outputFlag
	probe    bool
	remember bool
}

func newInspect() *cobra.Command {
	opts := new(inspectOptions)
	cmd := &cobra.Command{
		Use:   "inspect",
		Short: "Print this host's inventory",
		Long: `Print this host's inventory: parents, the types they offer, devices, and what
decides whether they can migrate (driver builds, parameters, firmware, facts).

Reading opens no device. With --probe, idle devices that Kindred made are asked
whether they can migrate, which opens them.

What could not be read is in the inventory's warnings, with its path; those are
printed on standard error too.`,
		Example: `  kindred inspect
  kindred inspect -o json > $(hostname).json
  kindred inspect --root ./copy-of-a-host -o yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runInspect(cmd, opts) },
	}
	opts.input.addRoot(cmd.Flags())
	opts.catalogs.add(cmd.Flags())
	opts.output.add(cmd)
	cmd.Flags().BoolVar(&opts.probe, "probe", false, "open idle devices that Kindred made, to ask whether they migrate")
	cmd.Flags().BoolVar(&opts.remember, "remember", false, "write down what idle vGPU cards offer, for when they are full and hide it")
	return cmd
}

func runInspect(cmd *cobra.Command, opts *inspectOptions) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	if opts.probe && opts.input.root != "/" {
		return usage(cmd, errors.New("--probe asks the devices of the running host: it does not go with --root"))
	}
	catalogs, err := opts.catalogs.load()
	if err != nil {
		// The host is read all the same: a catalog only names modules.
		cmd.PrintErrln("kindred: warning: " + clean(oneLine(err.Error())) + "; the site's catalogs are left out")
		if catalogs, err = compat.NewCatalogs(compat.BuiltIn(), nil); err != nil {
			return err
		}
	}
	h, err := openHost(opts.input.root)
	if err != nil {
		return err
	}
	defer h.Close()
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	inv, err := h.Inventory(ctx, host.Options{Probe: opts.probe, Modules: catalogs.Modules()})
	if errors.Is(err, context.Canceled) {
		return &exitError{exitInterrupt, err}
	}
	if err != nil {
		return err
	}
	if opts.remember {
		if _, err := record.RememberIdle(opts.input.root, inv); err != nil {
			return err
		}
	}
	warn(cmd, inv)
	return printInspected(cmd, &opts.output, inv)
}

// printInspected prints an inventory; as JSON it is the document that is read
// again.
func printInspected(cmd *cobra.Command, output *outputFlag, inv *inventory.Inventory) error {
	if output.format == "json" {
		data, err := inventory.Encode(inv)
		if err != nil {
			return err
		}
		cmd.Print(harmless(string(data)))
		return nil
	}
	return output.print(cmd, inv, func() { printInventory(cmd, inv) })
}

func printInventory(cmd *cobra.Command, inv *inventory.Inventory) {
	h := &inv.Host
	cmd.Printf("%s: kernel %s, QEMU %s, libvirt %s\n", clean(h.Name), clean(h.Kernel.Release.String()), clean(h.QEMU.String()), clean(h.Libvirt.String()))
	cmd.Printf("%s, %s, %s, %s\n", plural(len(inv.Parents), "parent"), plural(countTypes(inv), "type"), plural(len(inv.Devices), "device"), plural(len(inv.Warnings), "warning"))
	if len(inv.Parents) == 0 {
		cmd.Println("\n" + nothing([]*inventory.Inventory{inv}, nothingHere))
		return
	}
	parents := newTable("PARENT", "KIND", "DRIVER", "TYPES", "DEVICES", "BUILD")
	for i := range inv.Parents {
		p := &inv.Parents[i]
		devices := 0
		for j := range inv.Devices {
			if inv.Devices[j].Parent == p.Name {
				devices++
			}
		}
		parents.add(p.Name, string(p.Kind), p.Namespace, strconv.Itoa(len(p.Types)), strconv.Itoa(devices), buildText(inv, p))
	}
	cmd.Print("\n" + parents.String())
	cmd.Print("\n" + typeTable([]*inventory.Inventory{inv}).String())
	if len(inv.Devices) > 0 {
		cmd.Print("\n" + deviceTable([]*inventory.Inventory{inv}, true).String())
	}
}

const nothingHere = "No parent offers assignable devices: /sys/class/mdev_bus is empty or absent\nand no PCI function is bound to a VFIO driver."

// nothing is what to say of hosts that show none: here, unless something there
// could not be read.
func nothing(inventories []*inventory.Inventory, here string) string {
	for _, inv := range inventories {
		if inv.ParentsUnread || slices.ContainsFunc(inv.Warnings, func(w inventory.Warning) bool { return strings.HasPrefix(w.Path, "sys/") }) {
			return "Nothing could be listed, and not all could be read: see the warnings."
		}
	}
	return here
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

func countTypes(inv *inventory.Inventory) int {
	n := 0
	for i := range inv.Parents {
		n += len(inv.Parents[i].Types)
	}
	return n
}

// buildText is what of a parent's modules and firmware fits a line.
func buildText(inv *inventory.Inventory, p *inventory.Parent) string {
	var parts []string
	for _, name := range p.Modules {
		if m := inv.Module(name); m != nil {
			id := m.BuildID.String()
			parts = append(parts, name+" "+id[:min(12, len(id))])
		}
	}
	if fw, ok := p.Firmware.Get("fw").Get(); ok {
		parts = append(parts, fmt.Sprintf("firmware %s", fw))
	}
	return strings.Join(parts, ", ")
}
