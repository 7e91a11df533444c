// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"sync"
	"time"
)

// arrivals let those go on who wait for a revision, and nobody else: with many
// requests under way, waking all of them at each change costs more than the
// change.
type arrivals struct {
	mu      sync.Mutex
	reached int64
	waiting map[int64]chan struct{} // by revision: closed when it is reached
}

func newArrivals() arrivals { return arrivals{waiting: make(map[int64]chan struct{})} }

// reach is that a revision was seen.
func (a *arrivals) reach(revision int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reached = max(a.reached, revision)
	for wanted, c := range a.waiting {
		if wanted <= a.reached {
			close(c)
			delete(a.waiting, wanted)
		}
	}
}

// wait waits until a revision was seen.
func (a *arrivals) wait(ctx context.Context, revision int64, most time.Duration) bool {
	a.mu.Lock()
	if a.reached >= revision {
		a.mu.Unlock()
		return true
	}
	c := a.waiting[revision]
	if c == nil {
		c = make(chan struct{})
		a.waiting[revision] = c
	}
	a.mu.Unlock()
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-c:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reached >= revision
}
