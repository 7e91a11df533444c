// SPDX-License-Identifier: Apache-2.0

package proc

import "testing"

// TestNames: no process makes a line of its own by its name.
func TestNames(t *testing.T) {
	list := []Process{{71, "qemu \"ü\""}, {72, "x)\nError: y\x1b[2J"}, {73, ""}}
	if got, want := Names(list), `process 71 (qemu "ü") and process 72 (x)\nError: y\x1b[2J) and process 73`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
