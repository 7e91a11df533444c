// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"kindred/api"
	"kindred/client"
)

type drainWatchOptions struct {
	server serverFlags
	format string
}

func newDrainWatch() *cobra.Command {
	opts := new(drainWatchOptions)
	cmd := &cobra.Command{
		Use:   "watch DRAIN",
		Short: "Print what a drain does, until it is over",
		Long: `Print what a drain does, a line for each change of it and of its moves, until it
is over and nothing is under way. On a terminal a line below says how far it is.

Exit code: 0 everything was moved, 4 something stays, or it was cancelled.`,
		Example: `  kindred drain watch dsfc6r6f3tarphbu
  kindred drain watch dsfc6r6f3tarphbu -o json | jq -c 'select(.migration.state == "prepared")'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runDrainWatch(cmd, opts, args[0]) },
	}
	opts.server.add(cmd.Flags())
	cmd.Flags().StringVarP(&opts.format, "output", "o", "table", "output `FORMAT`: table or json, a line each")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func runDrainWatch(cmd *cobra.Command, opts *drainWatchOptions, id string) error {
	line := eventLine
	switch opts.format {
	case "table":
	case "json":
		line = eventJSON
	default:
		return usage(cmd, fmt.Errorf("unknown output format %q: it is one of table, json", opts.format))
	}
	c, err := opts.server.need(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	w := &drainWatch{client: c, id: id, seen: make(map[string]int64), below: newBelow(cmd.ErrOrStderr())}
	defer w.below.clear()
	err = lasting(cmd, w.follow, func(e *api.Event) (string, error) {
		w.below.clear()
		return line(e)
	})
	switch {
	case err != nil:
		return refusal(err)
	case w.last.State == api.DrainDone && w.last.Staying == 0:
		return nil
	}
	return &exitError{code: exitNo}
}

// drainWatch follows one drain.
type drainWatch struct {
	client *client.Client
	id     string
	last   api.Drain
	since  int64            // only what changed after this revision is told
	seen   map[string]int64 // at which revision the drain, and each move, was told last
	below  *below
}

// errOver ends a stream that has nothing more to tell.
var errOver = errors.New("the drain is over")

// again is after how long a stream that ended is asked for again.
const again = time.Second

// follow calls each with what comes, over servers that come and go.
func (w *drainWatch) follow(ctx context.Context, each func(*api.Event) error) error {
	_, after, err := w.client.Drains(ctx, false)
	if err != nil {
		return err
	}
	w.since = after
	for {
		d, err := w.client.Drain(ctx, w.id, false)
		if err != nil {
			return err
		}
		if w.last.ID == "" {
			if err := each(&api.Event{Revision: d.Revision, Kind: api.DrainEvent, Name: w.id, Drain: &d.Drain}); err != nil {
				return err
			}
			w.seen[w.id] = d.Revision
		}
		if over, err := w.over(ctx, &d.Drain); over || err != nil {
			return err
		}
		err = w.client.Events(ctx, []api.EventKind{api.DrainEvent, api.MigrationEvent}, after, func(e *api.Event) error {
			after = e.Revision
			return w.event(ctx, e, each)
		})
		_, refused := errors.AsType[*api.Problem](err)
		switch {
		case errors.Is(err, errOver):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case refused, errors.As(err, new(brokenOutput)):
			return err
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// brokenOutput is that nothing can be printed any more.
type brokenOutput struct{ error }

func (b brokenOutput) Unwrap() error { return b.error }

// event takes one event: those of the drain and of its moves are passed on.
func (w *drainWatch) event(ctx context.Context, e *api.Event, each func(*api.Event) error) error {
	mine := e.Kind == api.ResetEvent || e.Kind == api.DrainEvent && e.Name == w.id || e.Migration != nil && e.Migration.Drain == w.id
	if !mine || e.Revision <= w.seen[e.Name] {
		return nil
	}
	if err := each(e); err != nil {
		return brokenOutput{err}
	}
	w.seen[e.Name] = e.Revision
	switch {
	case e.Kind == api.ResetEvent:
		w.since = e.Revision // what came before will not be told any more
	case e.Gone && e.Kind == api.DrainEvent:
		return errOver
	}
	d, err := w.client.Drain(ctx, w.id, false)
	if err != nil {
		return err
	}
	over, err := w.over(ctx, &d.Drain)
	if over {
		return errOver
	}
	return err
}

// over takes how the drain stands, and reports whether nothing more will come:
// that it is over may be known before the events are here that say so.
func (w *drainWatch) over(ctx context.Context, d *api.Drain) (bool, error) {
	w.last = *d
	w.below.show(drainState(d) + ": " + drainCounts(d))
	told := func(name string, revision int64) bool { return revision <= max(w.since, w.seen[name]) }
	if !d.State.Over() || d.Moving > 0 || !told(w.id, d.Revision) {
		return false, nil
	}
	list, err := w.client.Migrations(ctx, true)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(list, func(m api.Migration) bool { return m.Drain == w.id && !told(m.ID, m.Revision) }), nil
}

// below is a line below what is printed, on a terminal.
type below struct{ to io.Writer }

// newBelow returns nil where there is no terminal.
func newBelow(stderr io.Writer) *below {
	f, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return &below{f}
}

func (b *below) show(text string) {
	if b != nil {
		fmt.Fprint(b.to, "\r\x1b[K"+clean(text))
	}
}

func (b *below) clear() {
	if b != nil {
		fmt.Fprint(b.to, "\r\x1b[K")
	}
}

func newDrainNext() *cobra.Command {
	wait := time.Duration(0)
	cmd := newOneOf("next DRAIN", "Take the next move that is prepared, to move the VM's state", `  kindred drain next dsfc6r6f3tarphbu --wait 10m -o json`, func(cmd *cobra.Command, c *client.Client, output *outputFlag, id string) error {
		m, err := nextMove(cmd.Context(), c, id, wait)
		if err != nil {
			return refusal(err)
		}
		return output.print(cmd, m, func() { printMigration(cmd, m) })
	})
	cmd.Long = `Take the next move of a drain that is prepared: hand it over and show it. Of
several that ask, each gets another. Then move the VM's state to the devices shown,
and say how that ended: kindred migration complete, or abort.

Exit code: 0 this one is yours, 5 none is prepared, 4 none will be: the drain is
over.`
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to wait for one")
	return cmd
}

// nextMove hands over a prepared move, one that nobody else did.
func nextMove(ctx context.Context, c *client.Client, id string, wait time.Duration) (*api.Migration, error) {
	for end := time.Now().Add(wait); ; {
		late := !time.Now().Before(end) // before it is asked: what comes is news then
		d, err := c.Drain(ctx, id, false)
		if err != nil {
			return nil, err
		}
		list, err := c.Migrations(ctx, false)
		if err != nil {
			return nil, err
		}
		moving := false
		for i := range list {
			m := &list[i]
			if m.Drain != id {
				continue
			}
			moving = moving || m.State == api.Claimed || m.State == api.Prepared
			if m.State != api.Prepared {
				continue
			}
			m, err := c.HandOverAt(ctx, m.ID, m.Revision)
			if err == nil {
				return m, nil
			}
			if _, refused := errors.AsType[*api.Problem](err); !refused {
				return nil, err
			} // somebody else has it, or it is aborted
		}
		switch {
		case d.State.Over() && !moving:
			return nil, &exitError{exitNo, fmt.Errorf("drain %s is %s, and nothing is prepared any more", id, d.State)}
		case late:
			return nil, &exitError{exitFull, fmt.Errorf("no move of drain %s is prepared", id)}
		}
		select {
		case <-time.After(again / 2):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
