// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
)

// historySize is how much of the store's file may be history. A fleet of which
// every host changes all the time would fill the disk within the hour that
// history is kept otherwise.
const historySize = 128 << 20

// mark is what was written until a revision, since the mark before.
type mark struct {
	revision int64
	bytes    int64
}

// history knows how much was written since when.
type history struct {
	most  int64
	marks []mark
	total int64
	size  int64 // of the store, at the last mark
}

// note takes the size of the store at a revision, and returns up to which
// revision history is to be forgotten, 0 for none: when there is more than is
// kept, the older half goes.
func (h *history) note(revision, size int64) (forget int64) {
	grown := max(size-h.size, 0)
	h.size = size
	h.marks, h.total = append(h.marks, mark{revision, grown}), h.total+grown
	if h.total <= h.most {
		return 0
	}
	for h.total > h.most/2 {
		forget = h.marks[0].revision
		h.total -= h.marks[0].bytes
		h.marks = h.marks[1:]
	}
	return forget
}

// bound keeps the history of an embedded store small until ctx ends.
func bound(ctx context.Context, etcd *embed.Etcd, client *clientv3.Client) {
	h := &history{most: historySize, size: etcd.Server.Backend().SizeInUse()}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		// What fails now is tried again when more has come.
		if revision := h.note(etcd.Server.KV().Rev(), etcd.Server.Backend().SizeInUse()); revision > 0 {
			_, _ = client.Compact(ctx, revision)
		}
	}
}
