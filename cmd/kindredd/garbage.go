// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"runtime"
	"runtime/metrics"
	"time"
)

// The runtime looks for garbage on a quarter of the processors that it has. Of fewer
// than four a quarter is less than one: then it takes each of them for milliseconds
// at a time, and what came meanwhile waits in their queues, behind all that came
// before. Given more than there are, it has one for that and the rest for those who
// ask, and the system divides the machine among them.
const leastProcessors = 4

// useProcessors gives the runtime as many as it needs, and returns how many there
// are. Whoever sets GOMAXPROCS decides himself.
func useProcessors() (there int) {
	there = runtime.GOMAXPROCS(0)
	if os.Getenv("GOMAXPROCS") == "" && there < leastProcessors {
		runtime.GOMAXPROCS(leastProcessors)
	}
	return there
}

// The runtime lets a heap become twice what is needed of it, and looks for garbage
// when seven tenths of the rest are used, on a quarter of the processors. Most of a
// server's memory is the fleet and its agents' connections, which stay: twice that
// is too much. With a smaller share, by GOGC, it would not be done in time on few
// processors, and whoever needs memory meanwhile has to help, and waits for others
// who help: with ten thousand agents answers took half a second instead of
// milliseconds. Who begins early needs neither: what may come meanwhile is far more
// than what comes.
const (
	early     = 0.54                  // of what the heap may grow, in place of 0.7
	earlyFrom = 64 << 20              // bytes that it may grow: a smaller heap is looked through at once
	earlyLook = 50 * time.Millisecond // how often that is looked at
)

// collectEarly begins to look for garbage early, until the context ends. Whoever
// sets GOGC or GOMEMLIMIT decides himself.
func collectEarly(ctx context.Context) {
	if os.Getenv("GOGC")+os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	const live, goal, allocs, cycles = 0, 1, 2, 3
	now := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/goal:bytes"}, {Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	var cycle, since uint64 // the last one, and what was allocated until it was over
	tick := time.NewTicker(earlyLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(now)
		if n := now[cycles].Value.Uint64(); n != cycle {
			cycle, since = n, now[allocs].Value.Uint64()
		}
		room := float64(now[goal].Value.Uint64()) - float64(now[live].Value.Uint64())
		if room > earlyFrom && float64(now[allocs].Value.Uint64()-since) > early*room {
			runtime.GC()
		}
	}
}
