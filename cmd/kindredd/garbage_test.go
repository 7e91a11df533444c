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

// TestUseProcessors: the runtime gets as many processors as it needs to look for
// garbage on one of them, unless there are more, or somebody else has decided.
func TestUseProcessors(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, c := range []struct {
		there, used int
		decided     string
	}{{1, leastProcessors, ""}, {2, leastProcessors, ""}, {leastProcessors, leastProcessors, ""}, {leastProcessors + 5, leastProcessors + 5, ""}, {2, 2, "2"}} {
		t.Setenv("GOMAXPROCS", c.decided)
		runtime.GOMAXPROCS(c.there)
		if there := useProcessors(); there != c.there || runtime.GOMAXPROCS(0) != c.used {
			t.Errorf("of %d processors %d are said to be there, and %d are used, want %d", c.there, there, runtime.GOMAXPROCS(0), c.used)
		}
	}
}
