// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"kindred/api"
	"kindred/compat"
	"kindred/fleet"
	"kindred/inventory"
	"kindred/prove"
)

type proveOptions struct {
	where    whereFlags
	ttl      time.Duration
	typ      string
	from, to string
	toType   string
	missing  bool
	dryRun   bool
	files    inputFlags
	catalogs catalogFlags
	proofs   proofFlags
	output   outputFlag
	tries    int
	scratch  string
}

func newProve() *cobra.Command {
	opts := new(proveOptions)
	cmd := &cobra.Command{
		Use:   "prove --type TYPE [--from PARENT|HOST[/PARENT]] [--to PARENT|HOST[/PARENT]]",
		Short: "Prove transfers by moving real state between canaries",
		Long: `Move the state of a canary, a throw-away device, between two parents of this
host and keep what came of it as a proof. Each side is tried with its own state
first, the transfer at least twice, and what a guest sees is compared where the
driver's catalog says how. A fault is never taken for a rejection.

Canaries are made only where /etc/kindred/policy.yaml allows them:

  canaries:
    - {parent: "0000:41:00.*", type: "acme_gpu-*"}

Where a server is known, --from and --to are hosts: the server orders the canaries
from their agents, between which the state goes straight, and keeps the proof for
the whole fleet. An interrupt cancels the order, and the agents remove what they
made. With --local they are parents of this host all the same.

With --missing it makes the smallest set of proofs that settles what some
inventories leave unknown: the ones between parents of this host are made, and
for the others it says what to record where and where to replay it. Without
--inventory the server is asked what the fleet lacks, and orders all of that.

Exit code: 0 all accepted, 3 at best inconclusive or not all made, 4 rejected.`,
		Example: `  kindred prove --type mtty-2
  kindred prove --type kdx-v4-4q --to-type kdx-v5-4q
  kindred prove --type mtty-2 --from host-a --to host-b
  kindred prove --missing --dry-run
  kindred prove --missing --inventory fleet/ --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runProve(cmd, opts) },
	}
	fs := cmd.Flags()
	fs.StringVar(&opts.typ, "type", "", "the source's `TYPE`, by its full name")
	fs.StringVar(&opts.from, "from", "", "the source `PARENT` (the first that offers the type), or HOST[/PARENT]")
	fs.StringVar(&opts.to, "to", "", "the target `PARENT` (all others that offer the type), or HOST[/PARENT]")
	fs.StringVar(&opts.toType, "to-type", "", "the target's `TYPE`, where a catalog declares it equivalent (the same)")
	fs.BoolVar(&opts.missing, "missing", false, "make the proofs that the fleet, or inventories, lack")
	fs.BoolVarP(&opts.dryRun, "dry-run", "n", false, "with --missing: only say which")
	fs.IntVar(&opts.tries, "tries", 2, "how often a transfer is tried, `N` from 2")
	fs.DurationVar(&opts.ttl, "ttl", 0, "how long an order may take (the server's default)")
	opts.where.add(fs)
	fs.StringVar(&opts.scratch, "scratch", "/var/tmp", "`DIR` for recordings while in use")
	opts.files.addFiles(fs)
	opts.catalogs.add(fs)
	opts.proofs.add(fs)
	opts.output.add(cmd)
	return cmd
}

func (o *proveOptions) check(cmd *cobra.Command) error {
	if err := o.output.check(cmd); err != nil {
		return err
	}
	switch {
	case o.missing == (o.typ != ""):
		return usage(cmd, errors.New("either --type or --missing is needed"))
	case o.missing && (o.from != "" || o.to != "" || o.toType != ""):
		return usage(cmd, errors.New("--missing finds the parents itself: --from, --to and --to-type do not go with it"))
	case len(o.files.inventories) > 0 && o.where.server.address != "":
		return usage(cmd, errors.New("--server and --inventory exclude each other"))
	case !o.missing && (o.dryRun || len(o.files.inventories) > 0):
		return usage(cmd, errors.New("--dry-run and --inventory go with --missing"))
	case o.tries < 2 || o.tries > 1000:
		return usage(cmd, fmt.Errorf("--tries %d: a transfer is tried from 2 to 1000 times", o.tries))
	}
	return nil
}

// session is this host with all that proofs need.
type session struct {
	live     *prove.Live
	prover   *prove.Prover
	store    *prove.Store
	progress *progress
	ctx      context.Context
	end      func()
}

// openSession opens this host for canaries. Its context ends on an interrupt,
// and canaries are removed then.
func openSession(cmd *cobra.Command, catalogs *catalogFlags, tries int, scratch string) (*session, error) {
	known, err := catalogs.load()
	if err != nil {
		return nil, err
	}
	live, err := prove.OpenLive(known.Modules(), prove.Local)
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		live.Close()
		return nil, errors.New("canaries are devices: only root can make them")
	}
	s := &session{live: live, store: prove.DefaultStore(), progress: newProgress(cmd.ErrOrStderr())}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	// A second one ends the process, whatever it waits for; the guard cleans up.
	context.AfterFunc(ctx, stop)
	swept, err := live.Sweep(ctx)
	for _, id := range swept {
		fmt.Fprintf(cmd.ErrOrStderr(), "kindred: removed the canary %s, which a process that was killed had left behind\n", id)
	}
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "kindred: warning: "+clean(oneLine(err.Error())))
	}
	unguard, err := prove.Guard()
	if err != nil {
		stop()
		live.Close()
		return nil, err
	}
	s.ctx = ctx
	s.end = func() {
		s.progress.end()
		if err := unguard(); err != nil {
			fmt.Fprintln(cmd.ErrOrStderr(), "kindred: warning: the guard of canaries: "+clean(oneLine(err.Error())))
		}
		live.Close()
		stop()
	}
	s.prover = &prove.Prover{
		Engine: compat.NewEngine(known, nil), Version: ownVersion(), Now: time.Now, Scratch: scratch, Tries: tries,
	}
	if s.progress != nil {
		s.prover.Progress = s.progress.step
	}
	return s, nil
}

// interrupted gives an interrupt its exit code.
func (s *session) interrupted(err error) error {
	switch {
	case s.ctx.Err() == nil:
		return err
	case errors.Is(err, prove.ErrLeft):
		return &exitError{exitInterrupt, fmt.Errorf("interrupted: %w; the next kindred prove tries again", err)}
	}
	return &exitError{exitInterrupt, errors.New("interrupted; all canaries are removed")}
}

// proved is one proof that was made, for -o json.
type proved struct {
	File  string        `json:"file,omitempty"`
	Order *api.Canary   `json:"order,omitempty"` // by which a server had it made
	Proof *compat.Proof `json:"proof"`
}

// keep keeps a proof.
func (s *session) keep(p *compat.Proof) (proved, error) {
	file, err := s.store.Add(p)
	return proved{File: file, Proof: p}, err
}

func runProve(cmd *cobra.Command, opts *proveOptions) error {
	if err := opts.check(cmd); err != nil {
		return err
	}
	if between := opts.from != "" || opts.to != ""; between || opts.missing && len(opts.files.inventories) == 0 {
		c, err := opts.where.find(cmd)
		if err != nil {
			return err
		}
		if c != nil {
			defer c.Close()
			return opts.runFleet(cmd, c)
		}
	}
	switch {
	case opts.missing && len(opts.files.inventories) == 0:
		return usage(cmd, fmt.Errorf("--missing needs --inventory, or a server: set %s, or give --server", serverVariable))
	case opts.missing:
		return runMissing(cmd, opts)
	case opts.where.server.address != "":
		return usage(cmd, errors.New("a server orders canaries between two hosts: --from HOST --to HOST"))
	}
	s, err := openSession(cmd, &opts.catalogs, opts.tries, opts.scratch)
	if err != nil {
		return err
	}
	defer s.end()
	from, targets, err := s.sides(opts)
	if err != nil {
		return s.interrupted(err)
	}
	var made []proved
	for _, to := range targets {
		p, err := s.prover.Prove(s.ctx, from, to)
		if err != nil {
			return s.interrupted(err)
		}
		kept, err := s.keep(p)
		if err != nil {
			return err
		}
		made = append(made, kept)
	}
	s.progress.end()
	if err := opts.output.print(cmd, made, func() { printProofs(cmd, made) }); err != nil {
		return err
	}
	return proveExit(made, nil)
}

// sides finds the parents that are meant.
func (s *session) sides(opts *proveOptions) (from *prove.Side, to []*prove.Side, err error) {
	inv, err := s.live.Inventory(s.ctx)
	if err != nil {
		return nil, nil, err
	}
	sources, err := s.offering(inv, opts.typ, opts.from)
	if err != nil {
		return nil, nil, err
	}
	from = sources[0]
	if to, err = s.offering(inv, cmp.Or(opts.toType, opts.typ), opts.to); err != nil {
		return nil, nil, err
	}
	if opts.to == "" && len(to) > 1 {
		to = slices.DeleteFunc(to, func(t *prove.Side) bool { return t.Parent == from.Parent && t.Type == from.Type })
	}
	return from, to, nil
}

// offering lists the parents that offer a type, or the one that is named.
func (s *session) offering(inv *inventory.Inventory, full, parent string) ([]*prove.Side, error) {
	var list []*prove.Side
	var others, functions []string
	for i := range inv.Parents {
		p := &inv.Parents[i]
		for j := range p.Types {
			t := p.Types[j].TypeName
			switch {
			case t.Full() != full:
			case p.Kind != inventory.MdevParent:
				functions = append(functions, p.Name)
			case parent != "" && p.Name != parent:
				others = append(others, p.Name)
			default:
				list = append(list, &prove.Side{Host: s.live, Parent: p.Name, Type: t})
			}
		}
	}
	switch {
	case len(list) > 0:
		return list, nil
	case len(others) > 0:
		return nil, &exitError{exitNoSuch, fmt.Errorf("%s does not offer %s: it is offered by %s", parent, full, strings.Join(others, ", "))}
	}
	if len(functions) > 0 {
		return nil, fmt.Errorf("%s is offered by %s, whose functions are not made and unmade at will: a canary is a mediated device; record a function that Kindred started, and that nobody uses, with kindred stream record", full, strings.Join(functions, ", "))
	}
	return nil, &exitError{exitNoSuch, fmt.Errorf("no parent of this host offers %s: kindred type list has what they offer", full)}
}

// proveExit is the worst of what was made, and unknown while some are open.
func proveExit(made []proved, open []fleet.Missing) error {
	code := exitOK
	for _, m := range made {
		switch {
		case m.Proof.Result == compat.Rejected:
			return &exitError{code: exitNo}
		case m.Proof.Result == compat.Inconclusive:
			code = exitUnknown
		}
	}
	if len(open) > 0 {
		code = exitUnknown
	}
	if code == exitOK {
		return nil
	}
	return &exitError{code: code}
}

func printProofs(cmd *cobra.Command, made []proved) {
	t := newTable("TYPE", "FROM", "TO", "RESULT", "DETAIL")
	for _, m := range made {
		p := m.Proof
		types := p.SourceType.Full()
		if p.TargetType != p.SourceType {
			types += " as " + p.TargetType.Full()
		}
		t.add(types, sideText(p.Source, p.Target), sideText(p.Target, p.Source), string(p.Result), p.Grade.String()+": "+p.Detail)
	}
	cmd.Print(t.String())
	for _, m := range made {
		for _, line := range m.Proof.Log {
			cmd.Println("kernel: " + clean(line))
		}
		if m.Order != nil {
			cmd.Println("kept by the server as " + clean(m.Order.Proof))
		} else {
			cmd.Println("kept in " + clean(m.File))
		}
	}
}

// sideText is one end's parent, with its host where the other end is on another.
func sideText(s, other *compat.ProofSide) string {
	switch {
	case s == nil:
		return "?"
	case other != nil && other.Host != s.Host:
		return s.Host + ": " + s.Parent
	}
	return s.Parent
}
