// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kindred/inventory"
	"kindred/prove"
	"kindred/stream"
)

// TestWriteStream: an interrupt ends the writing of a long stream, and leaves
// nothing of it.
func TestWriteStream(t *testing.T) {
	inv, err := readFiles([]string{"../../demo/recorded/host-a.json"})
	if err != nil {
		t.Fatal(err)
	}
	device := inv[0].Devices[0].ID
	extract, err := inv[0].Extract(device)
	if err != nil {
		t.Fatal(err)
	}
	extract.Origin = inventory.FromSimulator
	file, err := os.Create(filepath.Join(t.TempDir(), "recording"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := stream.NewWriter(file, &stream.Header{Made: time.Now(), By: "test", Inventory: extract})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 4<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close([]byte(`{"visible":{}}`)); err != nil {
		t.Fatal(err)
	}
	r, err := prove.OpenRecording(file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := writeStream(ctx, filepath.Join(dir, "out"), r); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := writeStream(context.Background(), filepath.Join(dir, "out"), r); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "out")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
