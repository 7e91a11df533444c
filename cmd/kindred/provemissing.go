// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"kindred/fleet"
	"kindred/prove"
)

// missingAnswer is what prove --missing did, for -o json.
type missingAnswer struct {
	Made []proved        `json:"made"`
	Open []fleet.Missing `json:"open"` // to be made elsewhere, or not made yet
}

func runMissing(cmd *cobra.Command, opts *proveOptions) error {
	f, err := openFleet(cmd, opts.files.inventories, &opts.catalogs, &opts.proofs)
	if err != nil {
		return err
	}
	answer := missingAnswer{Made: []proved{}, Open: f.Missing()}
	// Where no proof is of one host, nobody has to be root to be told.
	if !opts.dryRun && slices.ContainsFunc(answer.Open, func(m fleet.Missing) bool { return m.From.Host == m.To.Host }) {
		if answer.Made, answer.Open, err = makeMissing(cmd, opts, answer.Open); err != nil {
			return err
		}
	}
	if err := opts.output.print(cmd, answer, func() { printMissing(cmd, &answer) }); err != nil {
		return err
	}
	return proveExit(answer.Made, answer.Open)
}

// makeMissing makes the proofs whose ends are both on this host.
func makeMissing(cmd *cobra.Command, opts *proveOptions, list []fleet.Missing) (made []proved, open []fleet.Missing, err error) {
	s, err := openSession(cmd, &opts.catalogs, opts.tries, opts.scratch)
	if err != nil {
		return nil, nil, err
	}
	defer s.end()
	inv, err := s.live.Inventory(s.ctx)
	if err != nil {
		return nil, nil, s.interrupted(err)
	}
	made = []proved{}
	for _, m := range list {
		if m.From.Host != inv.Host.Name || m.To.Host != inv.Host.Name {
			open = append(open, m)
			continue
		}
		from := &prove.Side{Host: s.live, Parent: m.From.Parent, Type: m.From.Type}
		to := &prove.Side{Host: s.live, Parent: m.To.Parent, Type: m.To.Type}
		p, err := s.prover.Prove(s.ctx, from, to)
		if err != nil && s.ctx.Err() == nil && prove.NoCanary(err) { // the others can be made
			fmt.Fprintln(cmd.ErrOrStderr(), "kindred: warning: "+clean(oneLine(err.Error())))
			open = append(open, m)
			continue
		}
		if err != nil {
			return nil, nil, s.interrupted(err)
		}
		kept, err := s.keep(p)
		if err != nil {
			return nil, nil, err
		}
		made = append(made, kept)
		if p.Key() != m.Key {
			fmt.Fprintf(cmd.ErrOrStderr(), "kindred: warning: %s and %s are of other builds than the inventory of this host says: inspect it again\n", from, to)
			open = append(open, m)
		}
	}
	return made, open, nil
}

func printMissing(cmd *cobra.Command, answer *missingAnswer) {
	if len(answer.Made) > 0 {
		printProofs(cmd, answer.Made)
	}
	if len(answer.Open) == 0 {
		if len(answer.Made) == 0 {
			cmd.Println("No proof is missing: nothing between these hosts is unknown for want of one.")
		}
		return
	}
	cmd.Printf("%s would settle the rest:\n\n", plural(len(answer.Open), "proof"))
	t := newTable("FROM", "TO", "DEVICES", "TYPES")
	for _, m := range answer.Open {
		types := m.From.Type.Full()
		if m.To.Type != m.From.Type {
			types += " as " + m.To.Type.Full()
		}
		t.add(m.From.Host+": "+m.From.Parent, m.To.Host+": "+m.To.Parent, strconv.Itoa(m.Devices), types)
	}
	cmd.Print(t.String())
	m := &answer.Open[0]
	if m.From.Host == m.To.Host {
		cmd.Printf("\nTo make the first, on %s:\n  kindred prove --type %s --from %s --to %s", clean(m.From.Host), clean(m.From.Type.Full()), clean(m.From.Parent), clean(m.To.Parent))
		if m.To.Type != m.From.Type {
			cmd.Printf(" --to-type %s", clean(m.To.Type.Full()))
		}
		cmd.Println()
		return
	}
	cmd.Printf(`
To make the first, record on %s, and replay the file on %s:
  kindred stream record --type %s --parent %s --out canary.stream
  kindred stream replay canary.stream --type %s --parent %s
`, clean(m.From.Host), clean(m.To.Host), clean(m.From.Type.Full()), clean(m.From.Parent), clean(m.To.Type.Full()), clean(m.To.Parent))
}
