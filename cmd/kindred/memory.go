// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

// collectLate puts the first garbage collection off until the heap reaches
// 64 MiB, which a listing ends before: with 5,000 devices collecting took a
// ninth of the time. From the first collection on all is as usual. Whoever
// sets GOGC or GOMEMLIMIT is obeyed.
func collectLate() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(1600) // of a heap that is taken to be 4 MiB at least
	runtime.AddCleanup(new([64]byte), func(int) { debug.SetGCPercent(100) }, 0)
}
