// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestWriteStream: an interrupt ends the writing of a long stream, and leaves
// nothing of it.
func TestWriteStream(t *testing.T) {
	write := func(w io.Writer) error {
		for range 16 {
			if _, err := w.Write(make([]byte, 1<<18)); err != nil {
				return err
			}
		}
		return nil
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := writeStream(ctx, filepath.Join(dir, "out"), write); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := writeStream(context.Background(), filepath.Join(dir, "out"), write); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "out")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
