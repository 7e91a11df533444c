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

// encodeStatic compresses a static part: they are long, and much of them is
// alike.
func encodeStatic(static *inventory.Inventory) ([]byte, error) {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		return nil, fmt.Errorf("compress a static part: %w", err)
	}
	return z.EncodeAll(encode(static), nil), z.Close()
}

func decodeStatic(data []byte) (*inventory.Inventory, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(4*api.MaxStatic))
	if err != nil {
		return nil, fmt.Errorf("read a static part: %w", err)
	}
	defer z.Close()
	text, err := z.DecodeAll(data, nil)
	if err != nil {
		return nil, fmt.Errorf("read a static part: %w", err)
	}
	static := new(inventory.Inventory)
	if err := json.Unmarshal(text, static); err != nil {
		return nil, fmt.Errorf("read a static part: %w", err)
	}
	return static, nil
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
	data, err := encodeStatic(static)
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
