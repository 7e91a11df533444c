// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"strings"

	"kindred/inventory"
)

// Described is what a rule of a description would compare.
func Described(description inventory.Value, name string) inventory.Value {
	return described(description, name)
}

// described finds one value in a type's description. Drivers write "name:
// value" on lines of their own (i915) or "name=value" between commas (NVIDIA);
// prose has neither and says nothing.
func described(description inventory.Value, name string) inventory.Value {
	text, ok := description.Get()
	if !ok {
		return description // absent, or not observed: so is what it would say
	}
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == ',' }) {
		end := strings.IndexAny(part, ":=")
		if end >= 0 && strings.TrimSpace(part[:end]) == name {
			return inventory.Of(strings.TrimSpace(part[end+1:]))
		}
	}
	return inventory.None()
}
