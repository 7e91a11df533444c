// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"kindred/compat"
	"kindred/inventory"
)

func newCatalog() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "catalog",
		Short: "Write, test and compare what is known of drivers",
		Args:  cobra.ArbitraryArgs,
		RunE:  needsSubcommand,
	}
	cmd.AddCommand(newCatalogShow(), newCatalogTest(), newCatalogLint(), newCatalogDiff(), newCatalogInit(), newCatalogSchema())
	return cmd
}

// Files are bounded before they are read: a catalog is written by people, an
// inventory by a program.
const (
	maxCatalog   = 1 << 20
	maxInventory = 64 << 20
)

// readBounded reads a file that has at most max bytes; it looks at the size
// before reading, and does not trust it.
func readBounded(name string, max int64) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	tooLong := fmt.Errorf("%s: line 1, column 1: more than %d bytes: no such file is that long", name, max)
	if info.Mode().IsRegular() && info.Size() > max {
		return nil, tooLong
	}
	data, err := io.ReadAll(io.LimitReader(file, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, tooLong
	}
	return data, nil
}

// readCatalog reads one catalog file.
func readCatalog(name string) (*compat.Catalog, error) {
	data, err := readBounded(name, maxCatalog)
	if err != nil {
		return nil, &exitError{exitInput, fmt.Errorf("catalog: %w", err)}
	}
	c, err := compat.ParseCatalog(name, data)
	if err != nil {
		return nil, &exitError{exitInput, err}
	}
	return c, nil
}

// documents are catalogs and inventories, as files named them.
type documents struct {
	catalogs    []*compat.Catalog
	inventories []*inventory.Inventory
}

// readDocuments reads files of either kind, told apart by their names; of a
// directory the inventories and catalogs in it.
func readDocuments(names []string) (*documents, error) {
	d := new(documents)
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return nil, &exitError{exitInput, err}
		}
		files := []string{name}
		if info.IsDir() {
			files = nil
			entries, err := os.ReadDir(name)
			if err != nil {
				return nil, &exitError{exitInput, err}
			}
			for _, e := range entries {
				if slices.Contains([]string{".json", ".yaml", ".yml"}, filepath.Ext(e.Name())) {
					files = append(files, filepath.Join(name, e.Name()))
				}
			}
			if len(files) == 0 {
				return nil, &exitError{exitInput, fmt.Errorf("there is no *.json and no *.yaml in %s", name)}
			}
		}
		for _, file := range files {
			if err := d.read(file); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

func (d *documents) read(name string) error {
	switch filepath.Ext(name) {
	case ".yaml", ".yml":
		c, err := readCatalog(name)
		if err != nil {
			return err
		}
		d.catalogs = append(d.catalogs, c)
	case ".json":
		data, err := readBounded(name, maxInventory)
		if err != nil {
			return &exitError{exitInput, fmt.Errorf("inventory: %w", err)}
		}
		inv, err := inventory.Decode(data)
		if err != nil {
			return &exitError{exitInput, fmt.Errorf("inventory %s: %w", name, err)}
		}
		d.inventories = append(d.inventories, inv)
	default:
		return &exitError{exitInput, fmt.Errorf("%s: a catalog's name ends in .yaml, an inventory's in .json", name)}
	}
	return nil
}

// everyCatalog is the site's catalogs and the built-in ones.
func (f *catalogFlags) everyCatalog() ([]*compat.Catalog, error) {
	site, err := f.site()
	if err != nil {
		return nil, err
	}
	return append(site, compat.BuiltIn()...), nil
}

func newCatalogSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of catalogs, for editors",
		Long: `Print the JSON Schema of catalog files. An editor that knows it completes keys
and shows mistakes; kindred itself is stricter still.`,
		Example: `  kindred catalog schema > catalog.v1.json
  # then, as the first line of a catalog:
  # yaml-language-server: $schema=catalog.v1.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.Print(string(compat.JSONSchema()))
			return nil
		},
	}
}

var errNoCatalog = errors.New("no catalog is about it")

func joined(list []string) string { return strings.Join(list, ", ") }
