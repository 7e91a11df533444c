// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"kindred/api"
	"kindred/client"
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
proof), or one of /etc/kindred/proof-keys.d/*.pub.

Where a server is known, list, show and import are about its proofs, which count
for the whole fleet; with --local they are about this host's.`,
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

// listed is a proof of the store, or of the server's.
type listed struct {
	Key    string        `json:"key"`
	File   string        `json:"file,omitempty"`
	ID     string        `json:"id,omitempty"` // the server's
	Origin string        `json:"origin,omitempty"`
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
	newestFirst(list)
	return list, nil
}

type proofListOptions struct {
	where  whereFlags
	of     api.ProofFilter
	result string
	output outputFlag
}

func newProofList() *cobra.Command {
	opts := new(proofListOptions)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the proofs of the fleet, or of this host, newest first",
		Example: `  kindred proof list
  kindred proof list --type mtty-2 --result rejected
  kindred proof list --local -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runProofList(cmd, opts) },
	}
	fs := cmd.Flags()
	opts.where.add(fs)
	fs.StringVar(&opts.of.Type, "type", "", "only of this `TYPE`, by its full name")
	fs.StringVar(&opts.of.Host, "host", "", "only between this `HOST` and others")
	fs.StringVar(&opts.result, "result", "", "only with this `RESULT`: accepted, rejected, inconclusive")
	_ = cmd.RegisterFlagCompletionFunc("result", cobra.FixedCompletions([]string{"accepted", "rejected", "inconclusive"}, cobra.ShellCompDirectiveNoFileComp))
	opts.output.add(cmd)
	return cmd
}

func runProofList(cmd *cobra.Command, opts *proofListOptions) error {
	if err := opts.output.check(cmd); err != nil {
		return err
	}
	opts.of.Result = compat.Result(opts.result)
	switch opts.of.Result {
	case "", compat.Accepted, compat.Rejected, compat.Inconclusive:
	default:
		return usage(cmd, fmt.Errorf("unknown result %q: it is one of accepted, rejected, inconclusive", opts.result))
	}
	c, err := opts.where.find(cmd)
	if err != nil {
		return err
	}
	var list []listed
	if c != nil {
		defer c.Close()
		list, err = fleetProofs(cmd.Context(), c, opts.of)
	} else if list, err = listProofs(cmd, prove.DefaultStore()); err == nil {
		list = slices.DeleteFunc(list, func(l listed) bool { return !chosen(&opts.of, l.Proof) })
	}
	if err != nil {
		return err
	}
	return opts.output.print(cmd, list, func() { printProofList(cmd, list) })
}

// chosen reports whether a proof of this host is one that was asked for.
func chosen(of *api.ProofFilter, p *compat.Proof) bool {
	on := func(s *compat.ProofSide) bool { return s != nil && s.Host == of.Host }
	return (of.Type == "" || p.SourceType.Full() == of.Type || p.TargetType.Full() == of.Type) &&
		(of.Host == "" || on(p.Source) || on(p.Target)) && (of.Result == "" || p.Result == of.Result)
}

// fleetProofs are the server's, newest first.
func fleetProofs(ctx context.Context, c *client.Client, of api.ProofFilter) ([]listed, error) {
	kept, err := c.Proofs(ctx, of)
	if err != nil {
		return nil, refusal(err)
	}
	list := make([]listed, 0, len(kept))
	for i := range kept {
		k := &kept[i]
		list = append(list, listed{Key: k.Key, ID: k.ID, Origin: string(k.Origin), Signer: k.Signer, Counts: true, Proof: &k.Proof})
	}
	newestFirst(list)
	return list, nil
}

func newestFirst(list []listed) {
	slices.SortStableFunc(list, func(a, b listed) int { return b.Proof.Time.Compare(a.Proof.Time) })
}

func printProofList(cmd *cobra.Command, list []listed) {
	if len(list) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "No such proof is kept: kindred prove and kindred stream replay make them.")
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
	return oneProof(list, ref)
}

// oneProof is the newest of the list that the reference names.
func oneProof(list []listed, ref string) (*listed, error) {
	var found []*listed
	for i := range list {
		if l := &list[i]; l.File == ref || l.ID == ref || filepath.Base(l.File) == ref || len(ref) >= 4 && strings.HasPrefix(l.Key, strings.ToLower(ref)) {
			found = append(found, l)
		}
	}
	switch {
	case len(found) == 0:
		return nil, &exitError{exitNoSuch, fmt.Errorf("proof %s: none of that key or file is kept; kindred proof list has them", ref)}
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
	output, where := new(outputFlag), new(whereFlags)
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
			c, err := where.find(cmd)
			if err != nil {
				return err
			}
			var l *listed
			if c != nil {
				defer c.Close()
				l, err = fleetProof(cmd.Context(), c, args[0])
			} else {
				l, err = findProof(cmd, args[0])
			}
			if err != nil {
				return err
			}
			return output.print(cmd, l, func() { printProof(cmd, l) })
		},
	}
	where.add(cmd.Flags())
	output.add(cmd)
	return cmd
}

// fleetProof is one of the server's, by its key, the beginning of one, or its id.
func fleetProof(ctx context.Context, c *client.Client, ref string) (*listed, error) {
	key, _, _ := strings.Cut(ref, "/")
	list, err := fleetProofs(ctx, c, api.ProofFilter{Key: key})
	if err != nil {
		return nil, err
	}
	return oneProof(list, ref)
}

func printProof(cmd *cobra.Command, l *listed) {
	p := l.Proof
	t := newTable("WHAT", "VALUE")
	t.add("key", l.Key)
	if l.ID != "" {
		t.add("id", l.ID)
		t.add("from", originText(l))
	} else {
		t.add("file", l.File)
	}
	counts := "yes, signed by " + l.Signer
	if !l.Counts {
		counts = "no: " + l.Why
	}
	if l.ID == "" {
		t.add("counts", counts)
	}
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

// originText is how a proof came to the server.
func originText(l *listed) string {
	switch api.ProofOrigin(l.Origin) {
	case api.Imported:
		return "somebody who had the key of " + l.Signer
	case api.Observed:
		return "a migration"
	}
	return "a canary that the server ordered"
}
