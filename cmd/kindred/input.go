// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"kindred/compat"
	"kindred/fleet"
	"kindred/host"
	"kindred/inventory"
)

// inputFlags say where hosts are read from.
type inputFlags struct {
	inventories []string
	root        string
}

func (f *inputFlags) add(fs *pflag.FlagSet) {
	f.addFiles(fs)
	f.addRoot(fs)
}

func (f *inputFlags) addRoot(fs *pflag.FlagSet) {
	fs.StringVar(&f.root, "root", "/", "read the host below `DIR`, a copy of its /sys, /proc and /etc")
}

func (f *inputFlags) addFiles(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.inventories, "inventory", nil, "inventory `FILES` made by kindred inspect -o json, or directories of them")
}

// addArgs takes arguments as further inventory files: a shell expands
// --inventory host-*.json so.
func (f *inputFlags) addArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 && len(f.inventories) == 0 {
		return usage(cmd, fmt.Errorf("%q is not expected here: inventory files follow --inventory", args[0]))
	}
	f.inventories = append(f.inventories, args...)
	return nil
}

// catalogFlags say where a site's catalogs are.
type catalogFlags struct{ dir string }

const siteCatalogs = "/etc/kindred/catalog.d"

func (f *catalogFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.dir, "catalogs", siteCatalogs, "the site's catalogs, `DIR`/*.yaml")
}

// files are those of the site's catalogs.
func (f *catalogFlags) files() (names []string, err error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil && (f.dir != siteCatalogs || !errors.Is(err, fs.ErrNotExist)) {
		return nil, &exitError{exitInput, fmt.Errorf("catalogs: %w", err)}
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".yaml") || strings.HasSuffix(e.Name(), ".yml") {
			names = append(names, filepath.Join(f.dir, e.Name()))
		}
	}
	return names, nil
}

// site reads the site's catalogs.
func (f *catalogFlags) site() ([]*compat.Catalog, error) {
	files, err := f.files()
	if err != nil {
		return nil, err
	}
	var site []*compat.Catalog
	for _, name := range files {
		c, err := readCatalog(name)
		if err != nil {
			return nil, err
		}
		site = append(site, c)
	}
	return site, nil
}

// load reads the site's catalogs and adds the built-in ones.
func (f *catalogFlags) load() (*compat.Catalogs, error) {
	site, err := f.site()
	if err != nil {
		return nil, err
	}
	return knownWith(site)
}

// readFiles reads inventory files; a directory stands for the *.json in it.
func readFiles(names []string) ([]*inventory.Inventory, error) {
	var files []string
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return nil, &exitError{exitInput, fmt.Errorf("inventory: %w", err)}
		}
		if !info.IsDir() {
			files = append(files, name)
			continue
		}
		within, err := filepath.Glob(filepath.Join(name, "*.json"))
		if err != nil || len(within) == 0 {
			return nil, &exitError{exitInput, fmt.Errorf("inventory: there is no *.json in %s", name)}
		}
		files = append(files, within...)
	}
	var list []*inventory.Inventory
	from := make(map[string]string) // by host
	for _, name := range files {
		data, err := readBounded(name, maxInventory)
		if err != nil {
			return nil, &exitError{exitInput, fmt.Errorf("inventory: %w", err)}
		}
		inv, err := inventory.Decode(data)
		if err != nil {
			return nil, &exitError{exitInput, fmt.Errorf("inventory %s: %w", name, err)}
		}
		if other, twice := from[inv.Host.Name]; twice {
			return nil, &exitError{exitInput, fmt.Errorf("inventory %s: host %s is in %s already: keep the newer one", name, inv.Host.Name, other)}
		}
		from[inv.Host.Name] = name
		list = append(list, inv)
	}
	return list, nil
}

// openEngine takes what is known of drivers: catalogs and proofs.
func openEngine(cmd *cobra.Command, catalogs *catalogFlags, proofs *proofFlags) (*compat.Engine, error) {
	cs, err := catalogs.load()
	if err != nil {
		return nil, err
	}
	known, err := proofs.load(cmd)
	if err != nil {
		return nil, err
	}
	return compat.NewEngine(cs, known), nil
}

// readFleet reads files and makes a fleet of them.
func readFleet(engine *compat.Engine, files []string) (*fleet.Fleet, error) {
	inventories, err := readFiles(files)
	if err != nil {
		return nil, err
	}
	f, err := fleet.New(engine, inventories)
	if err != nil {
		return nil, &exitError{exitInput, err}
	}
	return f, nil
}

// openFleet is both.
func openFleet(cmd *cobra.Command, files []string, catalogs *catalogFlags, proofs *proofFlags) (*fleet.Fleet, error) {
	engine, err := openEngine(cmd, catalogs, proofs)
	if err != nil {
		return nil, err
	}
	return readFleet(engine, files)
}

// source finds a device; not finding it has an exit code of its own.
func source(f *fleet.Fleet, ref string) (*fleet.Source, error) {
	s, err := f.Source(ref)
	if err != nil {
		return nil, &exitError{exitNoSuch, fmt.Errorf("device %w", err)}
	}
	return s, nil
}

// openHost opens the live host, or a copy of one.
func openHost(root string) (*host.Host, error) {
	h, err := host.Open(root)
	switch {
	case errors.Is(err, host.ErrNotAHost), errors.Is(err, fs.ErrNotExist):
		return nil, &exitError{exitInput, err}
	case err != nil:
		return nil, err
	}
	return h, nil
}

// warn prints what could not be read, one line each.
func warn(cmd *cobra.Command, inv *inventory.Inventory) {
	for _, w := range inv.Warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "kindred: warning: %s: %s\n", clean("/"+strings.TrimPrefix(w.Path, "/")), clean(w.Problem))
	}
}

// completeDevice completes device ids from the inventory files named so far,
// or from this host.
func completeDevice(files *[]string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault // more inventory files
		}
		named := slices.Clone(*files) // cobra reads flags twice to complete
		slices.Sort(named)
		inventories, err := readFiles(slices.Compact(named))
		if len(named) == 0 {
			var h *host.Host
			if h, err = host.Open("/"); err == nil {
				defer h.Close()
				inventories = append(inventories, h.List(false, true))
			}
		}
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var ids []string
		for _, inv := range inventories {
			for _, d := range inv.Devices {
				if strings.HasPrefix(d.ID, prefix) {
					ids = append(ids, d.ID+"\t"+d.Type.Full()+" on "+inv.Host.Name)
				}
			}
		}
		slices.Sort(ids)
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}
