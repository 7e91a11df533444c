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
	for range 2 { // the second replaces the first
		err := writeStream(context.Background(), filepath.Join(dir, "out"), func(w io.Writer) error {
			if err := write(w); err != nil {
				return err
			}
			// What is half written has no name: who is killed now leaves nothing.
			if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
				t.Errorf("while it is written: %v, %v", left, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("beside the file: %v, %v", left, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "out")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
