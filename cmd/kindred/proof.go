// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"kindred/compat"
	"kindred/prove"
)

func newProof() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "proof",
		Short: "Look at proofs, and carry them between hosts",
		Long: `A proof is the record of a real transfer between two driver builds (kindred
prove, kindred stream replay). check, targets and matrix take the ones into
account that this host keeps, and others by --proofs. A file of proofs counts
when a key signed it that is trusted: this host's own (made with its first
proof), or one of /etc/kindred/proof-keys.d/*.pub.`,
		Example: `  kindred proof list
  kindred proof export --out proofs.json
  kindred proof sign proofs.json --key site.key
  kindred proof import proofs.json`,
		Args: cobra.ArbitraryArgs,
		RunE: needsSubcommand,
	}
	cmd.AddCommand(newProofList(), newProofShow(), newProofExport(), newProofImport(), newProofSign(), newProofKey())
	return cmd
}

// listed is a proof of the store.
type listed struct {
	Key    string        `json:"key"`
	File   string        `json:"file"`
	Signer string        `json:"signer,omitempty"` // the trusted key's name
	Counts bool          `json:"counts"`
	Why    string        `json:"why,omitempty"` // it does not
	Proof  *compat.Proof `json:"proof"`
}

// listProofs reads the store, newest first. Files that are wrong are warnings.
func listProofs(cmd *cobra.Command, store *prove.Store) ([]listed, error) {
	entries, err := store.Entries()
	if err != nil {
		return nil, &exitError{exitInput, err}
	}
	list := []listed{}
	for _, e := range entries {
		if e.File == nil {
			fmt.Fprintln(cmd.ErrOrStderr(), "kindred: warning: "+clean(oneLine(e.Err.Error())))
			continue
		}
		for i := range e.File.Proofs {
			l := listed{Key: e.File.Proofs[i].Key(), File: e.Name, Signer: e.Signer.Name, Counts: e.Err == nil, Proof: &e.File.Proofs[i]}
			if e.Err != nil {
				l.Why = prove.ErrNotTrusted.Error()
			}
			list = append(list, l)
		}
	}
	slices.SortStableFunc(list, func(a, b listed) int { return b.Proof.Time.Compare(a.Proof.Time) })
	return list, nil
}

func newProofList() *cobra.Command {
	output := new(outputFlag)
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the proofs that this host keeps, newest first",
		Example: "  kindred proof list\n  kindred proof list -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := output.check(cmd); err != nil {
				return err
			}
			list, err := listProofs(cmd, prove.DefaultStore())
			if err != nil {
				return err
			}
			return output.print(cmd, list, func() { printProofList(cmd, list) })
		},
	}
	output.add(cmd)
	return cmd
}

func printProofList(cmd *cobra.Command, list []listed) {
	if len(list) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "No proofs are kept here: kindred prove and kindred stream replay make them.")
		return
	}
	t := newTable("KEY", "TIME", "TYPES", "RESULT", "GRADE", "BUILDS")
	for _, l := range list {
		p := l.Proof
		types := p.SourceType.Full()
		if p.TargetType != p.SourceType {
			types += " -> " + p.TargetType.Full()
		}
		result := string(p.Result)
		if !l.Counts {
			result += " (does not count)"
		}
		t.add(l.Key[:8], p.Time.UTC().Format("2006-01-02 15:04"), types, result, p.Grade.String(), buildsText(p))
	}
	cmd.Print(t.String())
}

func buildsText(p *compat.Proof) string {
	return endText(p.Source, p.SourceBuild) + " -> " + endText(p.Target, p.TargetBuild)
}

func endText(s *compat.ProofSide, id string) string {
	build := compat.Build{ID: id}
	if s != nil {
		build.Parts = s.Build
	}
	return build.Short()
}

// findProof finds one by its file, its key, or the beginning of one.
func findProof(cmd *cobra.Command, ref string) (*listed, error) {
	list, err := listProofs(cmd, prove.DefaultStore())
	if err != nil {
		return nil, err
	}
	var found []*listed
	for i := range list {
		if l := &list[i]; l.File == ref || filepath.Base(l.File) == ref || len(ref) >= 4 && strings.HasPrefix(l.Key, strings.ToLower(ref)) {
			found = append(found, l)
		}
	}
	switch {
	case len(found) == 0:
		return nil, &exitError{exitNoSuch, fmt.Errorf("proof %s: none of that key or file is kept here; kindred proof list has them", ref)}
	case slices.ContainsFunc(found, func(l *listed) bool { return l.Key != found[0].Key }):
		return nil, &exitError{exitNoSuch, fmt.Errorf("proof %s: several begin so: give more of the key", ref)}
	}
	return found[0], nil // the newest of that key
}

func completeProof(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	list, err := listProofs(cmd, prove.DefaultStore())
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var keys []string
	for _, l := range list {
		if strings.HasPrefix(l.Key, prefix) {
			keys = append(keys, l.Key[:12]+"\t"+l.Proof.SourceType.Full()+" "+string(l.Proof.Result))
		}
	}
	return keys, cobra.ShellCompDirectiveNoFileComp
}

func newProofShow() *cobra.Command {
	output := new(outputFlag)
	cmd := &cobra.Command{
		Use:               "show KEY|FILE",
		Short:             "Show a proof with all that is on record about it",
		Example:           "  kindred proof show 3f2a91bc\n  kindred proof show 3f2a91bc -o json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeProof,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := output.check(cmd); err != nil {
				return err
			}
			l, err := findProof(cmd, args[0])
			if err != nil {
				return err
			}
			return output.print(cmd, l, func() { printProof(cmd, l) })
		},
	}
	output.add(cmd)
	return cmd
}

func printProof(cmd *cobra.Command, l *listed) {
	p := l.Proof
	t := newTable("WHAT", "VALUE")
	t.add("key", l.Key)
	t.add("file", l.File)
	counts := "yes, signed by " + l.Signer
	if !l.Counts {
		counts = "no: " + l.Why
	}
	t.add("counts", counts)
	t.add("time", p.Time.UTC().Format("2006-01-02 15:04:05 MST"))
	t.add("result", string(p.Result))
	t.add("detail", p.Detail)
	t.add("grade", p.Grade.String())
	t.add("guest-visible state", map[bool]string{true: "compared, and equal", false: "not compared, or not equal"}[p.Verified])
	t.add("controls", map[bool]string{true: "passed on both sides", false: "not passed"}[p.Controls])
	t.add("tries", fmt.Sprint(p.Tries))
	if p.Simulated {
		t.add("simulated", "yes: no kernel took part")
	}
	for _, end := range []struct {
		name string
		typ  string
		side *compat.ProofSide
	}{{"source", p.SourceType.Full(), p.Source}, {"target", p.TargetType.Full(), p.Target}} {
		if end.side == nil {
			continue
		}
		t.add(end.name, fmt.Sprintf("%s on %s: %s, kernel %s", end.typ, end.side.Host, end.side.Parent, end.side.Kernel))
		for _, part := range end.side.Build {
			t.add("  "+part.Name, part.Value.String())
		}
	}
	cmd.Print(t.String())
	for _, line := range p.Log {
		cmd.Println("kernel: " + clean(line))
	}
}
