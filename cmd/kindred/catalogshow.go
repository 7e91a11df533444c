// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"kindred/compat"
	"kindred/inventory"
)

type catalogShowOptions struct {
	catalogs catalogFlags
	output   outputFlag
}

func newCatalogShow() *cobra.Command {
	opts := new(catalogShowOptions)
	cmd := &cobra.Command{
		Use:   "show [NAMESPACE|FILE]",
		Short: "Show what catalogs say",
		Long: `Show what a catalog says of a driver and where it knows it from; without an
argument, which catalogs there are. A site's catalog takes the place of a
built-in one.`,
		Example: `  kindred catalog show
  kindred catalog show qat_vfio_pci
  kindred catalog show site.yaml -o json`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, c := range compat.BuiltIn() {
				for _, ns := range c.Namespaces {
					names = append(names, ns+"\t"+c.Title)
				}
			}
			return names, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runCatalogShow(cmd, opts, args) },
	}
	opts.catalogs.add(cmd.Flags())
	opts.output.add(cmd)
	return cmd
}

// catalogRow is one catalog of the list.
type catalogRow struct {
	Name       string   `json:"name"`
	Title      string   `json:"title"`
	Namespaces []string `json:"namespaces"`
	Rules      int      `json:"rules"`
	Examples   int      `json:"examples"`
}

func runCatalogShow(cmd *cobra.Command, opts *catalogShowOptions, args []string) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	if len(args) == 0 {
		every, err := opts.catalogs.everyCatalog()
		if err != nil {
			return err
		}
		rows := []catalogRow{}
		for _, c := range every {
			rows = append(rows, catalogRow{c.Name, c.Title, c.Namespaces, len(c.Rules), len(c.Examples.Cases)})
		}
		return opts.output.print(cmd, rows, func() {
			t := newTable("CATALOG", "RULES", "EXAMPLES", "NAMESPACES")
			for _, r := range rows {
				t.add(r.Name, strconv.Itoa(r.Rules), strconv.Itoa(r.Examples), joined(r.Namespaces))
			}
			cmd.Print(t.String())
		})
	}
	c, err := opts.find(args[0])
	if err != nil {
		return err
	}
	shown := describeCatalog(c)
	return opts.output.print(cmd, shown, func() { printCatalog(cmd, shown) })
}

// find is the catalog of a file, or the one that counts for a namespace.
func (o *catalogShowOptions) find(name string) (*compat.Catalog, error) {
	if strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml") {
		return readCatalog(name)
	}
	known, err := o.catalogs.load()
	if err != nil {
		return nil, err
	}
	if c := known.For(name); c != nil {
		return c, nil
	}
	if _, err := os.Stat(name); err == nil {
		return readCatalog(name)
	}
	return nil, &exitError{exitNoSuch, fmt.Errorf("%s: %w; kindred catalog show lists them", name, errNoCatalog)}
}

// catalogText is a catalog as it is shown: statements with their sources.
type catalogText struct {
	Name       string      `json:"name"`
	Title      string      `json:"title"`
	Namespaces []string    `json:"namespaces"`
	Says       []statement `json:"says"`
	Examples   int         `json:"examples"`
}

type statement struct {
	About  string `json:"about"`
	Says   string `json:"says"`
	Source string `json:"source"`
}

func describeCatalog(c *compat.Catalog) *catalogText {
	t := &catalogText{Name: c.Name, Title: c.Title, Namespaces: c.Namespaces, Says: []statement{}, Examples: len(c.Examples.Cases)}
	say := func(about, source, format string, args ...any) {
		t.Says = append(t.Says, statement{about, fmt.Sprintf(format, args...), source})
	}
	if c.Identity == compat.ByLabel {
		say("identity", "", "by label: names are numbers local to a card")
	}
	for _, m := range c.Migration {
		text := string(m.Can)
		if scope := strings.TrimSpace(m.Namespace + " " + m.Types); scope != "" {
			text += ", of " + scope
		}
		if m.Kernel != "" {
			text += ", before Linux " + m.Kernel
		}
		say("migration", m.Source, "%s", text)
	}
	parts := joined(append(append(append(append([]string{}, c.Build.Modules...), c.Build.Parameters...), c.Build.Firmware...), c.Build.Facts...))
	if parts == "" {
		parts = "every module found, all parameters, all firmware"
	}
	say("build", c.Build.Source, "%s", parts)
	for _, v := range c.Build.Versions {
		say("build", v.Source, "%s may differ by %s", v.Part, v.Rule)
	}
	lowest := c.Proof.Lowest
	if lowest == 0 {
		lowest = compat.WorkingState
	}
	canaries := c.Proof.Canaries
	if canaries == "" {
		canaries = compat.CanariesUnknown
	}
	truncated := c.Proof.Truncated
	if truncated == "" {
		truncated = inventory.Unknown
	}
	text := fmt.Sprintf("counts from %s; canaries %s; a cut stream is taken: %s", lowest, canaries, truncated)
	if len(c.Proof.Shaping) > 0 {
		text += "; shaped by " + joined(c.Proof.Shaping)
	}
	say("proof", c.Proof.Source, "%s", text)
	model := string(c.Capacity.Model)
	if model == "" {
		model = string(compat.UnknownCapacity)
	}
	for _, p := range c.Capacity.Pools {
		model += fmt.Sprintf("; %s", p.Name)
		if p.Size > 0 {
			model += fmt.Sprintf(" of %d", p.Size)
		}
		for _, take := range p.Takes {
			model += fmt.Sprintf(", %s takes %d", orDash(take.Types), take.Units)
		}
	}
	say("capacity", c.Capacity.Source, "%s", model)
	for i := range c.Rules {
		r := &c.Rules[i]
		say(string(r.Of)+" "+r.Attribute, r.Source, "%s", ruleSays(r))
	}
	for _, e := range c.Epochs {
		say("epoch "+e.Name, e.Source, "%d builds", len(e.Builds))
	}
	for _, k := range c.KnownBad {
		say("known-bad", k.Source, "%s", k.Reason)
	}
	for _, e := range c.Equivalent {
		var names []string
		for i, n := range e.Types {
			name := n.Namespace + "-" + n.Name
			if e.Ratio != nil {
				name += fmt.Sprintf(" (%d)", e.Ratio.Units[i])
			}
			names = append(names, name)
		}
		text := "once proved: " + joined(names)
		if e.Ratio != nil {
			text += ", by " + e.Ratio.Attribute
		}
		say("equivalent", e.Source, "%s", text)
	}
	for _, w := range c.Waivers {
		say("waiver "+w.Code, w.Source, "%s", w.Reason)
	}
	return t
}

func ruleSays(r *compat.Rule) string {
	text := string(r.Kind)
	if r.Types != "" {
		text += " for " + r.Types
	}
	if r.Form != "" {
		text += " as " + string(r.Form)
	}
	if r.Against != "" {
		text += " against " + r.Against
	}
	if r.Kind == compat.Range {
		text += " from " + r.Min + " to " + r.Max
	}
	switch {
	case r.Absent.Off:
		text += "; absent is off"
	case r.Absent.Alike:
		text += "; absent on both is alike"
	case r.Absent.Default != "":
		text += "; absent is " + r.Absent.Default
	}
	if r.Otherwise == compat.Unknown {
		text += "; otherwise unknown"
	}
	for _, p := range r.Refused {
		text += fmt.Sprintf("; never %s to %s", p.Source, p.Target)
	}
	return text
}

func printCatalog(cmd *cobra.Command, c *catalogText) {
	cmd.Printf("%s (%s)\nof %s, with %d examples\n\n", clean(c.Title), clean(c.Name), clean(joined(c.Namespaces)), c.Examples)
	t := newTable("ABOUT", "SAYS")
	for _, s := range c.Says {
		t.add(s.About, s.Says)
		if s.Source != "" {
			t.add("", "  source: "+s.Source)
		}
	}
	cmd.Print(t.String())
}
