// SPDX-License-Identifier: Apache-2.0

//go:build linux

package prove

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"kindred/host/change"
	"kindred/host/policy"
	"kindred/host/record"
)

// TestSweepHeld: a canary that was left behind and that somebody has open holds
// no later proof up. It stays on record until it can be removed.
func TestSweepHeld(t *testing.T) { synctest.Test(t, testSweepHeld) }

func testSweepHeld(t *testing.T) {
	h := small(t, "gen8")
	root := t.TempDir()
	records, err := record.OpenStore(root)
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

	// Another was killed while it wrote that it is about to make one.
	const never = "12345678-1234-4234-8234-123456789abc"
	e, err := l.ledger.write(never)
	if err != nil {
		t.Fatal(err)
	}
	e.file.Close()
	unfinished := filepath.Join(root, "var/lib/kindred/devices", never+".json.new")
	if err := os.WriteFile(unfinished, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if swept, err = l.Sweep(ctx); err != nil || len(swept) != 1 || l.ledger.busy() {
		t.Errorf("swept %v, %v", swept, err)
	}
	if left, err := os.ReadDir(filepath.Dir(unfinished)); err != nil || len(left) > 0 {
		t.Errorf("left of its record: %v, %v", left, err)
	}
}
