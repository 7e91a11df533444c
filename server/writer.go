// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"slices"

	"kindred/api"
	"kindred/server/store"
)

// write is a small transaction that may go to the store along with others.
type write struct {
	txn  store.Txn
	done chan result
}

// about are the records that it guards or writes.
func (w *write) about() []string {
	var keys []string
	for _, g := range w.txn.If {
		keys = append(keys, g.Key)
	}
	for _, one := range w.txn.Then {
		keys = append(keys, one.Key)
	}
	return keys
}

type result struct {
	revision int64
	ok       bool
	err      error
}

// mostWrites is how many writes go together: etcd takes 128 operations at once.
const mostWrites = 60

// together commits as [Server.commit] does, in one transaction with what others
// want to be written at that moment: a thousand hosts that report at once do not
// cost the store a thousand transactions.
func (s *Server) together(ctx context.Context, t store.Txn) (ok bool, err error) {
	w := &write{t, make(chan result, 1)}
	select {
	case s.writes <- w:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	var r result
	select {
	case r = <-w.done:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	switch {
	case r.err != nil:
		return false, problem(r.err)
	case !r.ok:
		s.view.wait(ctx, r.revision, requestWait/100)
		return false, nil
	}
	if !s.view.wait(ctx, r.revision, requestWait) {
		return false, api.NewProblem(api.Unavailable, "it was written, and this server has not seen it yet")
	}
	return true, nil
}

// write commits what comes until the context ends. Those that have a record in
// common, to guard or to write it, go one after the other in the order in which
// they came.
func (s *Server) write(ctx context.Context) {
	var later []*write
	for {
		batch, records := []*write(nil), make(map[string]bool)
		waiting := later
		later = nil
		take := func(w *write) {
			about := w.about()
			if slices.ContainsFunc(about, func(key string) bool { return records[key] }) {
				later = append(later, w)
			} else {
				batch = append(batch, w)
			}
			for _, key := range about {
				records[key] = true
			}
		}
		for _, w := range waiting {
			take(w)
		}
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
				return
			case w := <-s.writes:
				take(w)
			}
		}
	more:
		for len(batch)+len(later) < mostWrites {
			select {
			case w := <-s.writes:
				take(w)
			default:
				break more
			}
		}
		s.writeBatch(ctx, batch)
	}
}

// writeBatch writes all at once; a guard that does not hold concerns its own
// write alone.
func (s *Server) writeBatch(ctx context.Context, batch []*write) {
	if len(batch) == 1 {
		revision, ok, err := s.store.Commit(ctx, batch[0].txn)
		batch[0].done <- result{revision, ok, err}
		return
	}
	list := make([]store.Txn, len(batch))
	for i, w := range batch {
		list[i] = w.txn
	}
	revision, ok, err := s.store.CommitEach(ctx, list)
	for i, w := range batch {
		w.done <- result{revision, err == nil && ok[i], err}
	}
}
