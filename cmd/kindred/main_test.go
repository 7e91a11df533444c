// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

// TestRoot: a command called by its name is there alone, as it is among all.
func TestRoot(t *testing.T) {
	all := newRoot()
	for _, c := range commands {
		root := newRoot(c.name, "--help")
		if subs := root.Commands(); len(subs) != 1 || subs[0].Name() != c.name {
			t.Errorf("%s is called, and there are %v", c.name, subs)
			continue
		}
		among, _, err := all.Find([]string{c.name})
		if err != nil {
			t.Fatal(err)
		}
		if alone := root.Commands()[0]; alone.UsageString() != among.UsageString() {
			t.Errorf("alone, the command explains itself so:\n%s\namong all so:\n%s", alone.UsageString(), among.UsageString())
		}
	}
}
