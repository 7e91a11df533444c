// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"kindred/api"
	"kindred/inventory"
	"kindred/server/store"
)

// pack compresses a record that is long, and of which much is alike: a static
// part, the owners of a drain.
func pack(value any) ([]byte, error) {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		return nil, fmt.Errorf("compress a record: %w", err)
	}
	return z.EncodeAll(encode(value), nil), z.Close()
}

func unpack(data []byte, into any) error {
	z, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(4*api.MaxStatic))
	if err != nil {
		return fmt.Errorf("read a compressed record: %w", err)
	}
	defer z.Close()
	text, err := z.DecodeAll(data, nil)
	if err != nil {
		return fmt.Errorf("read a compressed record: %w", err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read a compressed record: %w", err)
	}
	return nil
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
	data, err := pack(static)
	if err != nil {
		return err
	}
	key := store.Key(store.Static, hash)
	ok, err := s.commit(ctx, store.Txn{If: []store.Guard{{Key: key}}, Then: []store.Write{{Key: key, Value: data}}})
	if err == nil && !ok { // another host of this make was first
		_, err = s.read(ctx, store.Static, hash)
	}
	return err
}
