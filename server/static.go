// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"sync"
	"time"

	"kindred/api"
	"kindred/inventory"
	"kindred/server/store"
)

// mostStatics is how many static parts the agent of one host may add while an unused
// one is kept: a host has one, and another after its kernel or a driver is changed.
// That bounds what one host's certificate can make all servers keep.
const mostStatics = 16

// added counts who added static parts lately.
type added struct {
	mu    sync.Mutex
	since time.Time
	by    map[string]int // host
}

// may reports whether one more is all right, and counts it.
func (a *added) may(host string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == nil || now.Sub(a.since) >= unusedFor {
		a.since, a.by = now, make(map[string]int)
	}
	if a.by[host] >= mostStatics {
		return false
	}
	a.by[host]++
	return true
}

// Static keeps the static part of some hosts' inventories, once.
func (s *Server) Static(ctx context.Context, hash string, static *inventory.Inventory) error {
	digest, err := static.Digest()
	if err != nil || digest != hash {
		return api.NewProblem(api.BadRequest, "the static part has the digest %s, not %s", digest, hash)
	}
	// It has to make sense for a host without devices.
	_, own := inventory.Split(static)
	own.Host, own.Origin = "a host", inventory.FromKernel
	if err := inventory.Join(static, own).Validate(); err != nil {
		return api.NewProblem(api.BadRequest, "the static part: %v", err)
	}
	s.view.mu.RLock()
	known := s.view.statics[hash] != nil
	s.view.mu.RUnlock()
	if known {
		return nil
	}
	if id := who(ctx); !id.Admin && id.Host != "" && !s.added.may(id.Host, s.now()) {
		return api.NewProblem(api.TooManyStatics, "%s, in %s", id.Host, unusedFor)
	}
	key := store.Key(store.Static, hash)
	ok, err := s.commit(ctx, store.Txn{If: []store.Guard{{Key: key}}, Then: []store.Write{{Key: key, Value: pack(static)}}})
	if err == nil && !ok { // another host of this make was first
		_, err = s.read(ctx, store.Static, hash)
	}
	return err
}
