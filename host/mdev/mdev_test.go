// SPDX-License-Identifier: Apache-2.0

package mdev

import (
	"strings"
	"testing"

	"kindred/inventory"
)

// TestSplitType: the namespace is known, never guessed from where a hyphen is.
func TestSplitType(t *testing.T) {
	for _, c := range []struct {
		dir, driver, subsystem, namespace, name string
		bad                                     bool
	}{
		{"i915-GVTg_V5_4", "i915", "pci", "i915", "GVTg_V5_4", false},
		{"mtty-2", "", "mtty", "mtty", "2", false},
		{"qat-v4-type1", "qat", "pci", "qat", "v4-type1", false},
		{"qat-v4-type1", "qat-v4", "pci", "qat-v4", "type1", false},
		{"pci-x", "", "pci", "pci", "x", false},
		{"old-1", "new", "pci", "", "old-1", true}, // the driver's name changed since
		{"nvidia-", "nvidia", "pci", "", "nvidia-", true},
		{"nvidia", "nvidia", "pci", "", "nvidia", true},
		{"-1", "", "", "", "-1", true},
	} {
		got, err := splitType(c.dir, c.driver, c.subsystem)
		if want := (inventory.TypeName{Namespace: c.namespace, Name: c.name}); got != want || c.bad != (err != nil) {
			t.Errorf("%s of driver %q, bus or class %q: %+v, %v; want %+v", c.dir, c.driver, c.subsystem, got, err, want)
		}
	}
}

func FuzzSplitType(f *testing.F) {
	f.Add("qat-v4-type1", "qat", "pci")
	f.Add("-", "", "-")
	f.Fuzz(func(t *testing.T, dir, driver, subsystem string) {
		name, err := splitType(dir, driver, subsystem)
		if err == nil && (name.Full() != dir || name.Namespace != driver && name.Namespace != subsystem) {
			t.Errorf("%q of %q, %q splits into %+v", dir, driver, subsystem, name)
		}
		if err != nil && (name.Namespace != "" || !strings.Contains(err.Error(), "namespace")) {
			t.Errorf("%q of %q, %q: %+v, %v", dir, driver, subsystem, name, err)
		}
	})
}
