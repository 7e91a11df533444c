// SPDX-License-Identifier: Apache-2.0

//go:build linux

package prove

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"kindred/host/change"
	"kindred/host/policy"
	"kindred/host/record"
)

// TestSweepHeld: a canary that was left behind and that somebody has open holds
// no later proof up. It stays on record until it can be removed.
func TestSweepHeld(t *testing.T) {
	h := small(t, "gen8")
	records, err := record.OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer records.Close()
	l := &Live{
		devices: &change.Host{Machine: h.m, Records: records, Patience: 10 * time.Millisecond},
		policy:  &policy.Policy{Canaries: []policy.Scope{{Parent: "*"}}},
		ledger:  ledger{filepath.Join(t.TempDir(), "canaries")}, made: make(map[string]*entry),
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	id, err := l.Make(ctx, "sim0", h.side().Type)
	if err != nil {
		t.Fatal(err)
	}
	d, err := h.m.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	l.made[id].file.Close() // its process was killed
	swept, err := l.Sweep(ctx)
	if err == nil || len(swept) > 0 || ctx.Err() != nil {
		t.Fatalf("swept %v, %v, after %v", swept, err, ctx.Err())
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if swept, err = l.Sweep(ctx); err != nil || len(swept) != 1 || l.ledger.busy() || h.left(t) != "" {
		t.Errorf("swept %v, %v; left: %s", swept, err, h.left(t))
	}
}
