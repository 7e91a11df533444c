// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"

	"github.com/spf13/cobra"

	"kindred/compat/diff"
)

type catalogDiffOptions struct {
	catalogs    catalogFlags
	inventories []string
	output      outputFlag
}

func newCatalogDiff() *cobra.Command {
	opts := new(catalogDiffOptions)
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Say whom a change of drivers or catalogs hurts",
		Long: `Compare a catalog, or inventories of the same hosts, before and after a change,
and say whom it hurts: types that are gone or changed under their name,
features that went without a new major version, what became compatible only
later, and the running devices that have fewer places to go. OLD and NEW are
two catalogs, or two inventories or directories of them.

Exit code, for CI: 0 nothing is hurt (there may be advice and notes), 3 what
was answered would be unknown, 4 something breaks, 6 a file is wrong.`,
		Example: `  kindred catalog diff main.yaml pull-request.yaml
  kindred catalog diff main.yaml pull-request.yaml --inventory racks/
  kindred catalog diff before.json after.json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return runCatalogDiff(cmd, opts, args) },
	}
	cmd.Flags().StringSliceVar(&opts.inventories, "inventory", nil, "inventory `FILES`: whose devices two catalogs answer otherwise about")
	opts.catalogs.add(cmd.Flags())
	opts.output.add(cmd)
	return cmd
}

func runCatalogDiff(cmd *cobra.Command, opts *catalogDiffOptions, args []string) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	before, err := readDocuments(args[:1])
	if err != nil {
		return err
	}
	after, err := readDocuments(args[1:])
	if err != nil {
		return err
	}
	changes, err := opts.changes(cmd, before, after)
	if err != nil {
		return err
	}
	if err := opts.output.print(cmd, changes, func() { printDiff(cmd, changes) }); err != nil {
		return err
	}
	switch diff.Worst(changes) {
	case diff.Breaks:
		return &exitError{code: exitNo}
	case diff.Unknown:
		return &exitError{code: exitUnknown}
	}
	return nil
}

func (o *catalogDiffOptions) changes(cmd *cobra.Command, before, after *documents) ([]diff.Change, error) {
	catalogs := len(before.catalogs) == 1 && len(after.catalogs) == 1
	hosts := len(before.inventories) > 0 && len(after.inventories) > 0
	switch {
	case catalogs && len(before.inventories)+len(after.inventories) == 0:
		changes := diff.Catalogs(before.catalogs[0], after.catalogs[0])
		if len(o.inventories) == 0 {
			return changes, nil
		}
		list, err := readFiles(o.inventories)
		if err != nil {
			return nil, err
		}
		then, err := knownWith(before.catalogs)
		if err != nil {
			return nil, err
		}
		now, err := knownWith(after.catalogs)
		if err != nil {
			return nil, err
		}
		return append(diff.Answers(then, now, list), changes...), nil
	case hosts && len(before.catalogs)+len(after.catalogs) == 0 && len(o.inventories) == 0:
		known, err := o.catalogs.load()
		if err != nil {
			return nil, err
		}
		return diff.Inventories(known, before.inventories, after.inventories), nil
	}
	return nil, usage(cmd, errors.New("OLD and NEW are two catalogs, or inventories of the same hosts"))
}

func printDiff(cmd *cobra.Command, changes []diff.Change) {
	t := newTable("EFFECT", "CODE", "CHANGE")
	for _, c := range changes {
		about := c.About
		if c.Where != "" {
			about = c.Where + ": " + about
		}
		t.add(string(c.Effect), string(c.Code), about)
		t.add("", "", "  "+c.Reason)
		if c.Better != "" {
			t.add("", "", "  better: "+c.Better)
		}
	}
	if len(changes) > 0 {
		cmd.Print(t.String() + "\n")
	}
	count := make(map[diff.Effect]int)
	for _, c := range changes {
		count[c.Effect]++
	}
	cmd.Printf("%d break, %d unknown, %d advice, %d notes\n", count[diff.Breaks], count[diff.Unknown], count[diff.Advice], count[diff.Note])
}

// diffCodes lists diff's codes for kindred reason.
func diffCodes() []code {
	var list []code
	for _, c := range diff.Codes() {
		list = append(list, code{string(c), c.Meaning() + " (" + string(c.Effect()) + ")", ""})
	}
	return list
}
