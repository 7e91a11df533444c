// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"runtime"
	"testing"
	"time"
)

// TestCollectEarly: of a large heap garbage is looked for before the runtime does
// it by itself, unless whoever runs the program has decided otherwise.
func TestCollectEarly(t *testing.T) {
	kept := make([]byte, 4*earlyFrom)
	runtime.GC()
	forced := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	t.Setenv("GOMEMLIMIT", "")
	t.Setenv("GOGC", "150")
	collectEarly(t.Context()) // returns
	t.Setenv("GOGC", "")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); collectEarly(ctx) }()
	before := forced()
	var garbage []byte
	for limit := time.Now().Add(time.Minute); forced() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("nobody looked for garbage early")
		}
		garbage = make([]byte, 1<<20)
	}
	runtime.KeepAlive(garbage)
	runtime.KeepAlive(kept)
	cancel()
	<-done
}
