// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"slices"
	"time"

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

// mostWrites is how many writes go together: etcd takes 128 operations at once,
// and no more than a megabyte and a half.
const (
	mostWrites = 60
	mostBytes  = 1 << 20
)

// pace is how long there is from a transaction in which several writes went together
// to the next, at least: what comes meanwhile goes together too. Writes that come one
// after the other do not wait.
const pace = 20 * time.Millisecond

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

// batch is what goes to the store together. What has a record in common with it,
// to guard or to write it, or is too much, goes later, in the order in which it
// came.
type batch struct {
	now, later []*write
	records    map[string]bool
	bytes      int
}

// newBatch begins with what the one before left for later.
func newBatch(waiting []*write) *batch {
	b := &batch{records: make(map[string]bool)}
	for _, w := range waiting {
		b.add(w)
	}
	return b
}

func (b *batch) add(w *write) {
	size := 0
	for _, one := range w.txn.Then {
		size += len(one.Value)
	}
	about := w.about()
	busy := slices.ContainsFunc(about, func(key string) bool { return b.records[key] })
	if busy || len(b.now) > 0 && b.bytes+size > mostBytes {
		b.later = append(b.later, w)
	} else {
		b.now, b.bytes = append(b.now, w), b.bytes+size
	}
	for _, key := range about {
		b.records[key] = true
	}
}

// write commits what comes until the context ends.
func (s *Server) write(ctx context.Context) {
	var waiting []*write
	var next time.Time // there is no hurry before
	for {
		b := newBatch(waiting)
		if len(b.now) == 0 {
			select {
			case <-ctx.Done():
				return
			case w := <-s.writes:
				b.add(w)
			}
		}
		b.collect(s.writes, time.Until(next))
		if len(b.now) > 1 {
			next = time.Now().Add(pace)
		}
		s.writeBatch(ctx, b.now)
		waiting = b.later
	}
}

// collect takes what comes until the time is over, and what is there then.
func (b *batch) collect(from <-chan *write, wait time.Duration) {
	over := time.NewTimer(max(wait, 0))
	defer over.Stop()
	for len(b.now)+len(b.later) < mostWrites {
		select {
		case w := <-from:
			b.add(w)
			continue
		default:
		}
		select {
		case w := <-from:
			b.add(w)
		case <-over.C:
			return
		}
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
