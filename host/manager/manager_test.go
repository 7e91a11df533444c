// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"kindred/inventory"
)

func TestAsk(t *testing.T) {
	dir := t.TempDir()
	program := func(name, script string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	qemu := program("qemu", "echo 'QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)'")
	silent := program("silent", "true")
	fails := program("fails", "exit 3")
	none := filepath.Join(dir, "none")
	for _, c := range []struct {
		name     string
		programs []string
		want     inventory.Value
		warned   int
	}{
		{"there", []string{none, qemu}, inventory.Of("10.0.13"), 0},
		{"not installed", []string{none}, inventory.None(), 0},
		{"prints nothing", []string{silent, qemu}, inventory.Value{}, 1},
		{"fails", []string{fails, qemu}, inventory.Value{}, 1},
	} {
		warned := 0
		if got := ask(context.Background(), func(string, error) { warned++ }, c.programs...); got != c.want || warned != c.warned {
			t.Errorf("%s: %s with %d warnings, want %s with %d", c.name, got, warned, c.want, c.warned)
		}
	}
}
