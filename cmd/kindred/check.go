// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"

	"github.com/spf13/cobra"

	"kindred/compat"
	"kindred/fleet"
)

type checkOptions struct {
	from     string
	to       []string
	catalogs catalogFlags
	proofs   proofFlags
	output   outputFlag
	explain  bool
}

func newCheck() *cobra.Command {
	opts := new(checkOptions)
	cmd := &cobra.Command{
		Use:   "check --from FILE DEVICE --to FILE...",
		Short: "Judge a device against each parent of some hosts",
		Long: `Judge whether a device could live-migrate to the parents of other hosts: one
verdict for each parent that offers its type, with what to create there and the
reason. It is compatibility alone, in this direction; kindred targets adds room,
readiness and the way back.

Exit code: 0 a parent is compatible, 3 at best unknown, 4 none is.`,
		Example: `  kindred check --from host-a.json 83b8f4f2 --to host-b.json
  kindred check --from host-a.json 83b8f4f2 --to host-b.json --explain
  kindred check --from host-a.json 83b8f4f2 --to racks/*.json -o json`,
		Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			files := []string{opts.from}
			return completeDevice(&files)(cmd, args, prefix)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.to = append(opts.to, args[1:]...)
			return runCheck(cmd, opts, args[0])
		},
	}
	cmd.Flags().StringVar(&opts.from, "from", "", "inventory `FILE` of the device's host")
	cmd.Flags().StringSliceVar(&opts.to, "to", nil, "inventory `FILES` of the targets, or directories of them")
	cmd.Flags().BoolVar(&opts.explain, "explain", false, "show every finding")
	opts.catalogs.add(cmd.Flags())
	opts.proofs.add(cmd.Flags())
	opts.output.add(cmd)
	return cmd
}

func runCheck(cmd *cobra.Command, opts *checkOptions, device string) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	if opts.from == "" || len(opts.to) == 0 {
		return usage(cmd, errors.New("--from and --to are needed"))
	}
	engine, err := openEngine(cmd, &opts.catalogs, &opts.proofs)
	if err != nil {
		return err
	}
	origin, err := readFleet(engine, []string{opts.from})
	if err != nil {
		return err
	}
	targets, err := readFleet(engine, opts.to)
	if err != nil {
		return err
	}
	s, err := source(origin, device)
	if err != nil {
		return err
	}
	answer := targets.Check(s)
	if err := opts.output.print(cmd, answer, func() { printCheck(cmd, answer, opts.explain) }); err != nil {
		return err
	}
	return checkExit(answer)
}

// checkExit is 0 when at least one parent could take the device.
func checkExit(answer *fleet.Check) error {
	best := compat.Incompatible
	for i := range answer.Verdicts {
		best = min(best, answer.Verdicts[i].Outcome)
	}
	switch best {
	case compat.Compatible:
		return nil
	case compat.Unknown:
		return &exitError{code: exitUnknown}
	}
	return &exitError{code: exitNo}
}

func printCheck(cmd *cobra.Command, answer *fleet.Check, explain bool) {
	printDevice(cmd, &answer.Device)
	t := newTable("HOST", "PARENT", "CREATE", "OUTCOME", "REASON")
	for i := range answer.Verdicts {
		v := &answer.Verdicts[i]
		t.add(v.Host, orDash(v.Parent), typeText(v.Type), v.Outcome.String(), reason(v))
	}
	cmd.Print("\n" + t.String())
	if explain {
		for i := range answer.Verdicts {
			v := &answer.Verdicts[i]
			cmd.Printf("\n%s, %s, %s: %s\n", clean(v.Host), clean(orDash(v.Parent)), clean(typeText(v.Type)), v.Outcome)
			printFindings(cmd, v.Findings)
		}
	}
}

// printDevice is the head of every answer about a device.
func printDevice(cmd *cobra.Command, d *fleet.Device) {
	cmd.Printf("%s  %s\n", clean(d.ID), clean(typeText(d.Type)))
	cmd.Printf("on %s, parent %s", clean(d.Host), clean(d.Parent))
	if label, ok := d.Label.Get(); ok && label != "" {
		cmd.Printf(", %q", clean(label))
	}
	if d.Build.ID == "" {
		cmd.Printf(", driver build not fully known")
	} else if short := d.Build.Short(); short != "" {
		cmd.Printf(", driver build %s", clean(short))
	}
	cmd.Println()
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// reason is the finding that decided, with its code.
func reason(v *compat.Verdict) string {
	f := v.Worst()
	if f == nil || v.Outcome == compat.Compatible {
		return liftedText(v)
	}
	return string(f.Code) + ": " + f.Text()
}

// liftedText says how a compatible pair of different builds came to be.
func liftedText(v *compat.Verdict) string {
	for i := range v.Findings {
		switch f := &v.Findings[i]; f.Code {
		case compat.BuildEqual, compat.BuildEpoch, compat.BuildAccepted, compat.BuildProved:
			return f.Text()
		}
	}
	return ""
}

func printFindings(cmd *cobra.Command, findings []compat.Finding) {
	t := newTable("  FINDING", "CODE", "WHY")
	for i := range findings {
		f := &findings[i]
		t.add("  "+f.Outcome.String(), string(f.Code), f.Text())
		if f.Rule != "" {
			t.add("", "  rule", f.Rule)
		}
		if f.From != "" && f.From != "kindred" {
			t.add("", "  source", f.From)
		}
		if f.Remedy != "" && f.Outcome != compat.Compatible {
			t.add("", "  remedy", f.Remedy)
		}
	}
	cmd.Print(t.String())
}
