// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

	"kindred/api"
	"kindred/server/store"
)

// write is a small transaction that may go to the store along with others.
type write struct {
	txn  store.Txn
	done chan result
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

// write commits what comes until the context ends.
func (s *Server) write(ctx context.Context) {
	for {
		var batch []*write
		select {
		case <-ctx.Done():
			return
		case w := <-s.writes:
			batch = append(batch, w)
		}
	more:
		for len(batch) < mostWrites {
			select {
			case w := <-s.writes:
				batch = append(batch, w)
			default:
				break more
			}
		}
		s.writeBatch(ctx, batch)
	}
}

// writeBatch writes all at once, or each for itself where a guard does not hold
// or two of them are about the same record.
func (s *Server) writeBatch(ctx context.Context, batch []*write) {
	var all store.Txn
	seen := make(map[string]bool)
	twice := false
	for _, w := range batch {
		all.If = append(all.If, w.txn.If...)
		all.Then = append(all.Then, w.txn.Then...)
		for _, one := range w.txn.Then {
			twice = twice || seen[one.Key]
			seen[one.Key] = true
		}
	}
	if !twice {
		revision, ok, err := s.store.Commit(ctx, all)
		if ok || err != nil || len(batch) == 1 {
			for _, w := range batch {
				w.done <- result{revision, ok, err}
			}
			return
		}
	}
	for _, w := range batch {
		revision, ok, err := s.store.Commit(ctx, w.txn)
		w.done <- result{revision, ok, err}
	}
}
