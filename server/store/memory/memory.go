// SPDX-License-Identifier: Apache-2.0

// Package memory is a store in this process's memory, for tests whose clock is not
// the machine's: nothing in it waits but for its callers.
//
// It promises what package store promises of a [store.Store], as far as a server
// can tell; the same tests hold both to it. What is kept ends with the process.
package memory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"kindred/server/store"
)

var errTwice = errors.New("a key is written twice in one transaction")

// Store is one store. Its zero value is empty.
type Store struct {
	mu       sync.Mutex
	revision int64
	records  map[string]store.Record
	log      []store.Record // every change, in order
	moved    chan struct{}  // closed at the next change; nil: nobody waits
}

// Get reads one record as it is now, nil if it is not there.
func (s *Store) Get(ctx context.Context, key string) (*store.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.records[key]; ok {
		return &r, ctx.Err()
	}
	return nil, ctx.Err()
}

// Read calls yield with every record whose key begins with the given text.
func (s *Store) Read(ctx context.Context, begin string, yield func(store.Record) error) (revision int64, err error) {
	s.mu.Lock()
	revision = s.revision
	all := maps.Clone(s.records)
	s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if !strings.HasPrefix(key, begin) {
			continue
		}
		if err := yield(all[key]); err != nil {
			return 0, err
		}
	}
	return revision, ctx.Err()
}

// Commit writes all of a transaction or nothing of it.
func (s *Store) Commit(ctx context.Context, t store.Txn) (revision int64, ok bool, err error) {
	revision, each, err := s.CommitEach(ctx, []store.Txn{t})
	return revision, err == nil && each[0], err
}

// CommitEach commits several transactions at once, each for itself, at one
// revision.
func (s *Store) CommitEach(ctx context.Context, list []store.Txn) (revision int64, ok []bool, err error) {
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	written := make(map[string]bool)
	for _, t := range list {
		for _, w := range t.Then {
			if written[w.Key] {
				return 0, nil, fmt.Errorf("write to the store: %w: %w", store.ErrUnavailable, errTwice)
			}
			written[w.Key] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.revision + 1
	for _, t := range list {
		holds := !slices.ContainsFunc(t.If, func(g store.Guard) bool { return s.records[g.Key].Revision != g.Revision })
		ok = append(ok, holds)
		if !holds {
			continue
		}
		for _, w := range t.Then {
			r, known := s.records[w.Key]
			switch {
			case !w.Delete && !known:
				r = store.Record{Key: w.Key, Created: next}
			case w.Delete && !known:
				continue
			}
			r.Value, r.Revision, r.Gone = slices.Clone(w.Value), next, w.Delete
			s.put(r)
		}
	}
	return s.revision, ok, nil
}

// put makes one change. The caller holds the lock.
func (s *Store) put(r store.Record) {
	if s.records == nil {
		s.records = make(map[string]store.Record)
	}
	s.records[r.Key] = r
	if r.Gone {
		delete(s.records, r.Key)
	}
	s.revision = r.Revision
	s.log = append(s.log, r)
	if s.moved != nil {
		close(s.moved)
		s.moved = nil
	}
}

// Watch calls yield with the changes after a revision, until the context ends or
// yield says so.
func (s *Store) Watch(ctx context.Context, begin string, after int64, yield func(changes []store.Record, revision int64) error) error {
	for {
		s.mu.Lock()
		from, _ := slices.BinarySearchFunc(s.log, after+1, func(r store.Record, revision int64) int { return int(r.Revision - revision) })
		news, at := s.log[from:], s.revision
		if s.moved == nil {
			s.moved = make(chan struct{})
		}
		moved := s.moved
		s.mu.Unlock()
		var changes []store.Record
		for _, r := range news {
			if strings.HasPrefix(r.Key, begin) {
				changes = append(changes, r)
			}
		}
		if len(changes) > 0 {
			if err := yield(changes, at); err != nil {
				return err
			}
		}
		after = at
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Announce keeps a record for as long as the context lives.
func (s *Store) Announce(ctx context.Context, key string, value []byte) error {
	if _, _, err := s.Commit(ctx, store.Txn{Then: []store.Write{{Key: key, Value: value}}}); err != nil {
		return err
	}
	<-ctx.Done()
	_, _, _ = s.Commit(context.WithoutCancel(ctx), store.Txn{Then: []store.Write{{Key: key, Delete: true}}}) // memory does not fail
	return ctx.Err()
}

// Revision is that of the store at this moment.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revision, ctx.Err()
}

// Hurry has nothing to do: every watch is told at once.
func (s *Store) Hurry(ctx context.Context) error { return ctx.Err() }

// Restored is a new store with records of another one, as a backup restores them:
// all at one revision, which is larger than any that was given.
func Restored(records []store.Record, revision int64) *Store {
	s := &Store{revision: revision - 1}
	for _, r := range records {
		s.put(store.Record{Key: r.Key, Value: r.Value, Created: revision, Revision: revision})
	}
	s.revision = revision
	return s
}
