// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"kindred/compat"
	"kindred/compat/lint"
)

type catalogLintOptions struct {
	catalogs catalogFlags
	output   outputFlag
	proofs   proofFlags
}

func newCatalogLint() *cobra.Command {
	opts := new(catalogLintOptions)
	cmd := &cobra.Command{
		Use:   "lint [CATALOG|INVENTORY...]",
		Short: "Look for what makes types hard to migrate",
		Long: `Look at catalogs and inventories for what makes types hard to migrate: names
that split one interface or say nothing, versions that cannot be compared,
attributes that nobody judges, rules that decide nothing. Each finding has a
code, a place, a reason and a better form; docs/types.md argues. Directories
stand for the files in them. Without arguments, the site's and the built-in
catalogs are looked at.

Exit code: 0 nothing found, or all of it waived by a catalog; 4 something was
found; 6 a file is wrong.`,
		Example: `  kindred catalog lint site.yaml
  kindred catalog lint site.yaml racks/
  kindred catalog lint host-a.json -o json`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return runCatalogLint(cmd, opts, args) },
	}
	opts.proofs.add(cmd.Flags())
	opts.catalogs.add(cmd.Flags())
	opts.output.add(cmd)
	return cmd
}

func runCatalogLint(cmd *cobra.Command, opts *catalogLintOptions, args []string) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	in := lint.Input{}
	var err error
	if in.Known, err = opts.catalogs.load(); err != nil {
		return err
	}
	if len(args) == 0 {
		if in.Catalogs, err = opts.catalogs.everyCatalog(); err != nil {
			return err
		}
	} else {
		d, err := readDocuments(args)
		if err != nil {
			return err
		}
		in.Catalogs, in.Inventories = d.catalogs, d.inventories
	}
	if in.Proofs, err = opts.proofs.load(cmd); err != nil {
		return err
	}
	findings := append([]lint.Finding{}, lint.Run(in)...)
	if err := opts.output.print(cmd, findings, func() { printLint(cmd, findings) }); err != nil {
		return err
	}
	if lint.Open(findings) > 0 {
		return &exitError{code: exitNo}
	}
	return nil
}

func printLint(cmd *cobra.Command, findings []lint.Finding) {
	t := newTable("CODE", "FINDING")
	for _, f := range findings {
		place := f.Place
		if f.More > 0 {
			place += fmt.Sprintf(" and %d more places", f.More)
		}
		t.add(string(f.Code), place+": "+f.About)
		if f.Waived != "" {
			t.add("", "  waived: "+f.Waived)
			continue
		}
		t.add("", "  "+f.Reason)
		t.add("", "  better: "+f.Better)
	}
	if len(findings) > 0 {
		cmd.Print(t.String() + "\n")
	}
	open := lint.Open(findings)
	cmd.Printf("%d found, %d waived\n", open, len(findings)-open)
}

// lintCodes lists lint's codes for kindred reason.
func lintCodes() []code {
	var list []code
	for _, c := range lint.Codes() {
		list = append(list, code{string(c), c.Meaning(), ""})
	}
	return list
}

// knownWith are the catalogs that count when a site has these.
func knownWith(catalogs []*compat.Catalog) (*compat.Catalogs, error) {
	known, err := compat.NewCatalogs(compat.BuiltIn(), catalogs)
	if err != nil {
		return nil, &exitError{exitInput, err}
	}
	return known, nil
}
