// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/binary"
	"slices"
	"sync"

	"kindred/compat"
)

// findings keeps lists of findings that are alike once: most verdicts have the
// reasons of many others.
type findings struct {
	mu      sync.Mutex
	numbers map[compat.Finding]uint64
	lists   map[string][]compat.Finding // by the numbers of their findings
	key     []byte                      // scratch
}

// list is the list that is kept for all that are alike.
func (f *findings) list(list []compat.Finding) []compat.Finding {
	if len(list) == 0 {
		return list
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lists == nil {
		f.numbers, f.lists = make(map[compat.Finding]uint64), make(map[string][]compat.Finding)
	}
	f.key = f.key[:0]
	for i := range list {
		n, ok := f.numbers[list[i]]
		if !ok {
			n = uint64(len(f.numbers))
			f.numbers[list[i]] = n
		}
		f.key = binary.AppendUvarint(f.key, n)
	}
	known, ok := f.lists[string(f.key)]
	if !ok {
		known = slices.Clip(slices.Clone(list)) // whoever adds to it makes his own
		f.lists[string(f.key)] = known
	}
	return known
}
