// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"kindred/compat/draft"
	"kindred/host"
	"kindred/inventory"
)

type catalogInitOptions struct{ input inputFlags }

func newCatalogInit() *cobra.Command {
	opts := new(catalogInitOptions)
	cmd := &cobra.Command{
		Use:   "init NAMESPACE",
		Short: "Write a first catalog of a driver, from what a host shows",
		Long: `Write a first catalog of a driver to standard output, from an inventory or this
host: strict rules for what its types and devices have, and comments that say
what somebody who knows the driver has to decide. It passes test and lint.`,
		Example: `  kindred catalog init mtty > mtty.yaml
  kindred catalog init acme_gpu --inventory host-a.json > acme_gpu.yaml
  kindred catalog test acme_gpu.yaml`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runCatalogInit(cmd, opts, args[0]) },
	}
	opts.input.add(cmd.Flags())
	return cmd
}

func runCatalogInit(cmd *cobra.Command, opts *catalogInitOptions, namespace string) error {
	list, err := opts.read(cmd)
	if err != nil {
		return err
	}
	for _, inv := range list {
		if slices.Contains(draft.Namespaces(inv), namespace) {
			text, err := draft.Catalog(inv, namespace)
			if err != nil {
				return err
			}
			cmd.Print(text)
			return nil
		}
	}
	var names []string
	for _, inv := range list {
		names = append(names, draft.Namespaces(inv)...)
	}
	slices.Sort(names)
	return &exitError{exitNoSuch, fmt.Errorf("no parent has the namespace %q: there are %s", namespace, orDash(joined(slices.Compact(names))))}
}

func (o *catalogInitOptions) read(cmd *cobra.Command) ([]*inventory.Inventory, error) {
	if len(o.input.inventories) > 0 {
		return readFiles(o.input.inventories)
	}
	h, err := openHost(o.input.root)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	inv, err := h.Inventory(cmd.Context(), host.Options{})
	if err != nil {
		return nil, err
	}
	warn(cmd, inv)
	return []*inventory.Inventory{inv}, nil
}
