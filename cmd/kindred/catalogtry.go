// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"kindred/compat"
)

type catalogTestOptions struct {
	catalogs catalogFlags
	output   outputFlag
	all      bool
}

func newCatalogTest() *cobra.Command {
	opts := new(catalogTestOptions)
	cmd := &cobra.Command{
		Use:   "test [FILE...]",
		Short: "Run the examples of catalogs",
		Long: `Run the examples of catalogs: each is a device and a target in short form, and
the answer that is expected. A rule needs an example that it accepts and one
that it refuses. Without a file, the site's and the built-in catalogs are run.

Exit code: 0 all answers are as expected, 4 one is not or a rule has no
example, 6 a file is wrong.`,
		Example: `  kindred catalog test site.yaml
  kindred catalog test site.yaml --all
  kindred catalog test`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return runCatalogTest(cmd, opts, args) },
	}
	cmd.Flags().BoolVar(&opts.all, "all", false, "show the examples that passed, too")
	opts.catalogs.add(cmd.Flags())
	opts.output.add(cmd)
	return cmd
}

// tested is how one catalog did.
type tested struct {
	Catalog string           `json:"catalog"`
	Trials  []compat.Trial   `json:"trials"`
	Untried []compat.Untried `json:"untried"`
}

func runCatalogTest(cmd *cobra.Command, opts *catalogTestOptions, args []string) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	list, err := opts.catalogs.everyCatalog()
	if err != nil {
		return err
	}
	others := list
	if len(args) > 0 {
		list = nil
		for _, name := range args {
			c, err := readCatalog(name)
			if err != nil {
				return err
			}
			list = append(list, c)
		}
		others = compat.BuiltIn()
	}
	results := []tested{}
	bad, total := 0, 0
	for _, c := range list {
		if len(args) == 0 {
			others = compat.BuiltIn()
		}
		trials, untried, err := c.Try(others)
		if err != nil {
			return &exitError{exitInput, err}
		}
		results = append(results, tested{c.Name, trials, untried})
		total += len(trials)
		bad += len(untried)
		for _, x := range trials {
			if x.Wrong != "" {
				bad++
			}
		}
	}
	if err := opts.output.print(cmd, results, func() { printTested(cmd, results, opts.all, total, bad) }); err != nil {
		return err
	}
	if bad > 0 {
		return &exitError{code: exitNo}
	}
	return nil
}

func printTested(cmd *cobra.Command, results []tested, all bool, total, bad int) {
	t := newTable("PLACE", "RESULT", "EXAMPLE")
	for _, r := range results {
		place := func(line int) string { return r.Catalog + ":" + strconv.Itoa(line) }
		for _, x := range r.Trials {
			if x.Wrong != "" {
				t.add(place(x.Line), "wrong", x.Example+": "+x.Wrong)
			} else if all {
				t.add(place(x.Line), "ok", x.Example)
			}
		}
		for _, u := range r.Untried {
			t.add(place(u.Line), "missing", fmt.Sprintf("%s has no example: %s", u.Rule, u.Wants))
		}
	}
	if len(t.rows) > 1 {
		cmd.Print(t.String() + "\n")
	}
	cmd.Printf("%d catalogs, %d examples, %d wrong or missing\n", len(results), total, bad)
}
