// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"kindred/inventory"
	"kindred/server/store"
)

// A static part that no host refers to any more is forgotten after a while: kernels
// are updated, and each update makes new ones. Hosts that come to one meanwhile are
// safe: who refers to it first writes it again, and a report is guarded by it.

// unusedFor is how long, and unusedLook how often that is looked at.
const (
	unusedFor  = time.Hour
	unusedLook = time.Minute
)

// unused are the static parts that no host refers to, since when this server knows.
type unused struct {
	mu     sync.Mutex
	looked time.Time
	since  map[string]idle
}

type idle struct {
	revision int64
	at       time.Time
}

// has reports whether nothing referred to a static part when it was looked at last.
func (u *unused) has(hash string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.since[hash]
	return ok
}

// sweepStatics forgets static parts that were not referred to for long.
func (s *Server) sweepStatics(ctx context.Context, now time.Time) (failed error) {
	var list []store.Txn
	s.unused.mu.Lock()
	if now.Sub(s.unused.looked) >= unusedLook {
		s.unused.looked = now
		s.unused.since = s.view.unused(s.unused.since, now)
		for hash, one := range s.unused.since {
			if now.Sub(one.at) > unusedFor {
				key := store.Key(store.Static, hash)
				list = append(list, store.Txn{If: []store.Guard{{Key: key, Revision: one.revision}}, Then: []store.Write{{Key: key, Delete: true}}})
			}
		}
	}
	s.unused.mu.Unlock()
	for _, t := range list {
		_, err := s.commit(ctx, t) // a guard that does not hold says that a host came to it
		failed = errors.Join(failed, err)
	}
	return failed
}

// unused are the static parts that nothing refers to, with the time since when if
// that is known from before.
func (v *view) unused(before map[string]idle, now time.Time) map[string]idle {
	v.mu.RLock()
	defer v.mu.RUnlock()
	used := make(map[string]bool)
	for _, h := range v.hosts {
		used[h.Static] = true
	}
	list := make(map[string]idle)
	for hash := range v.statics {
		if used[hash] {
			continue
		}
		list[hash] = idle{v.staticAt[hash], now}
		if was, ok := before[hash]; ok && was.revision == v.staticAt[hash] {
			list[hash] = was
		}
	}
	return list
}

// revive writes a static part again that nothing referred to, so that nobody who
// has not seen the host that comes to it forgets it.
func (s *Server) revive(ctx context.Context, hash string, static *inventory.Inventory, revision int64) error {
	key := store.Key(store.Static, hash)
	ok, err := s.commit(ctx, store.Txn{If: []store.Guard{{Key: key, Revision: revision}}, Then: []store.Write{{Key: key, Value: pack(static)}}})
	if ok {
		s.unused.mu.Lock()
		delete(s.unused.since, hash)
		s.unused.mu.Unlock()
	}
	return err
}
