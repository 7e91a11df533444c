// SPDX-License-Identifier: Apache-2.0

//go:build linux

package prove

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestGuard: it sweeps after a process that was killed, and after no other: it
// would wait for the canaries of all that are still at work.
func TestGuard(t *testing.T) {
	for said, want := range map[string]int{"": 1, "\x00": 0} {
		swept := 0
		err := guard(context.Background(), strings.NewReader(said), func(context.Context) error { swept++; return nil })
		if err != nil || swept != want {
			t.Errorf("after %q: swept %d times, %v", said, swept, err)
		}
	}
}

// TestLedgerRace: processes that make canaries and others that sweep are at it at
// the same time. A canary in use is never swept, and none of them fails.
func TestLedgerRace(t *testing.T) {
	l := ledger{filepath.Join(t.TempDir(), "canaries")}
	var done atomic.Bool
	var sweepers, writers sync.WaitGroup
	for range 3 {
		sweepers.Go(func() {
			for !done.Load() {
				swept, err := l.sweep(context.Background(), func(context.Context, string) error { return nil })
				if err != nil || len(swept) > 0 {
					t.Errorf("swept %v, %v", swept, err)
					return
				}
			}
		})
	}
	for w := range 4 {
		writers.Go(func() {
			for i := range 2000 {
				e, err := l.write(fmt.Sprintf("%d-%d", w, i))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(e.name); err != nil {
					t.Errorf("off the record while in use: %v", err)
				}
				if err := e.erase(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	done.Store(true)
	sweepers.Wait()
}
