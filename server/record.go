// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"kindred/api"
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

func pack(value any) []byte { return packed(encode(value)) }

func packed(text []byte) []byte { return packer().EncodeAll(text, make([]byte, 0, len(text)/3)) }

func unpack(data []byte, into any) error {
	text, err := unpacker().DecodeAll(data, nil)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("read a compressed record: %w", err)
	}
	return nil
}

// decodeHost reads a record of a host, also one that was written before they
// were compressed.
func decodeHost(r *store.Record) (rec hostRecord, err error) {
	switch {
	case r.Gone:
		return rec, nil
	case len(r.Value) > 0 && r.Value[0] == '{':
		return rec, json.Unmarshal(r.Value, &rec)
	}
	return rec, unpack(r.Value, &rec)
}

// drafts are reports that this server is writing: when they come back as changes
// of the store, they need not be read again.
type drafts struct {
	mu   sync.Mutex
	list map[string]*draft // by host
}

type draft struct {
	value []byte
	rec   hostRecord
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
