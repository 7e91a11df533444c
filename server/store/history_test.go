// SPDX-License-Identifier: Apache-2.0

package store

import (
	"testing"
)

// TestHistory: what is kept stays below the bound, and what is forgotten is the
// oldest and no more than is needed to stay below for a while.
func TestHistory(t *testing.T) {
	h := &history{most: 1000, size: 50}
	forgotten, size := int64(0), int64(50)
	for i := range int64(500) {
		size += 7
		kept := (i + 1 - forgotten) * 7
		forget := h.note(i+1, size)
		switch {
		case forget == 0 && kept > 1010: // what comes while pages come back does not show
			t.Fatalf("%d bytes are kept at revision %d", kept, i+1)
		case forget > 0 && (kept <= 990 || forget <= forgotten || (i+1-forget)*7 < 400):
			t.Fatalf("at revision %d, with %d bytes, all up to %d is forgotten; before it was up to %d", i+1, kept, forget, forgotten)
		case forget > 0:
			forgotten = forget
			size -= kept / 2 // the file's pages come back
		}
	}
	if forgotten == 0 {
		t.Error("nothing was forgotten")
	}
	if h.note(501, size+5000) != 501 {
		t.Error("one step of more than is kept does not go as a whole")
	}
}
