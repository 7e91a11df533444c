// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"kindred/api"
	"kindred/inventory"
	"kindred/server/store"
)

// Records that are long, and of which much is alike, are compressed: static parts,
// and what hosts report of their own, which is most of what is written. A quarter
// is left of it, in the store, in its log and in its history.
var (
	packer = sync.OnceValue(func() *zstd.Encoder {
		z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(fmt.Sprintf("compress with these options: %v", err)) // they are constants
		}
		return z
	})
	unpacker = sync.OnceValue(func() *zstd.Decoder {
		z, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(4*api.MaxStatic), zstd.WithDecoderConcurrency(0))
		if err != nil {
			panic(fmt.Sprintf("decompress with these options: %v", err)) // they are constants
		}
		return z
	})
)

func pack(value any) []byte {
	text := encode(value)
	return packer().EncodeAll(text, make([]byte, 0, len(text)/3))
}

func unpacked(data []byte) ([]byte, error) {
	text, err := unpacker().DecodeAll(data, nil)
	if err != nil {
		return nil, fmt.Errorf("read a compressed record: %w", err)
	}
	return text, nil
}

func unpack(data []byte, into any) error {
	text, err := unpacked(data)
	if err != nil {
		return err
	}
	err = json.Unmarshal(text, into)
	if err != nil {
		return fmt.Errorf("read a compressed record: %w", err)
	}
	return nil
}

// decodeHost reads a record of a host, which is its report: as it was sent, by gzip,
// or compressed here, or, in one that is older, not at all.
func decodeHost(r *store.Record) (rec api.Report, err error) {
	if r.Gone {
		return rec, nil
	}
	text := r.Value
	switch {
	case bytes.HasPrefix(text, []byte{'{'}):
	case bytes.HasPrefix(text, gzipMagic):
		if text, err = gunzip(text, api.MaxStatic, nil); err != nil {
			return rec, fmt.Errorf("read a host's record: %w", err)
		}
	default:
		if text, err = unpacked(text); err != nil {
			return rec, err
		}
	}
	if err := json.Unmarshal(text, &rec); err != nil {
		return rec, fmt.Errorf("read a host's record: %w", err)
	}
	return rec, nil
}

// take takes a record of the host, which was read.
func (h *hostState) take(rec *api.Report, r *store.Record) {
	h.Version, h.Agent, h.Mode, h.Leftover = rec.Version, rec.Agent, rec.Mode, rec.Leftover
	h.Static, h.Origin, h.Taken, h.Devices = "", "", time.Time{}, 0
	if rec.Own != nil {
		h.Static, h.Origin, h.Taken, h.Devices = rec.Own.Static, rec.Own.Origin, rec.Own.Taken, len(rec.Own.Devices)
	}
	h.record, h.revision = r.Value, written(r)
}

// own is what the host reported last of its own, nil for nothing.
func (h *hostState) own() *inventory.Own {
	if h.Static == "" {
		return nil
	}
	rec, err := decodeHost(&store.Record{Value: h.record})
	if err != nil {
		panic(fmt.Sprintf("a record that was read cannot be read again: %v", err))
	}
	return rec.Own
}

// drafts are reports that this server is writing: when they come back as changes
// of the store, they need not be read again.
type drafts struct {
	mu   sync.Mutex
	list map[string]*draft // by host
}

type draft struct {
	value []byte
	rec   api.Report
}

func newDrafts() drafts { return drafts{list: make(map[string]*draft)} }

func (d *drafts) add(host string, one *draft) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list[host] = one
}

// drop forgets a draft that is over, unless another one took its place.
func (d *drafts) drop(host string, one *draft) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.list[host] == one {
		delete(d.list, host)
	}
}

// of is the draft that a record is, nil for none.
func (d *drafts) of(r *store.Record, host string) *draft {
	d.mu.Lock()
	one := d.list[host]
	d.mu.Unlock()
	if one != nil && !r.Gone && bytes.Equal(one.value, r.Value) {
		return one
	}
	return nil
}
