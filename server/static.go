// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

	"kindred/api"
	"kindred/inventory"
	"kindred/server/store"
)

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
	key := store.Key(store.Static, hash)
	ok, err := s.commit(ctx, store.Txn{If: []store.Guard{{Key: key}}, Then: []store.Write{{Key: key, Value: pack(static)}}})
	if err == nil && !ok { // another host of this make was first
		_, err = s.read(ctx, store.Static, hash)
	}
	return err
}
