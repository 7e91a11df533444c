// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
)

// FuzzReader: what is read cleanly is what a writer wrote, and anything else is
// refused without handing out a byte more than the sums vouch for.
func FuzzReader(f *testing.F) {
	whole := record(f, payload(30), 10, json.RawMessage(`{"a":1}`))
	f.Add(whole)
	f.Add(record(f, nil, 10, nil))
	for _, n := range borders(f, whole) {
		f.Add(whole[:n])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, got, err := read(bytes.NewReader(data))
		if err != nil {
			if errors.Is(err, io.EOF) {
				t.Fatalf("an error that looks like a clean end: %v", err)
			}
			return
		}
		var b bytes.Buffer
		w, err := NewWriter(&b, s.Header())
		if err != nil {
			t.Fatalf("read, but not to be written: %v", err)
		}
		if _, err := w.Write(got); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(s.Trailer()); err != nil {
			t.Fatal(err)
		}
		again, got2, err := read(&b)
		if err != nil || !bytes.Equal(got, got2) || !bytes.Equal(s.Trailer(), again.Trailer()) {
			t.Fatalf("came back different: %v", err)
		}
	})
}

// FuzzFault changes a stream that is right, which random bytes never are.
func FuzzFault(f *testing.F) {
	f.Add([]byte("the state"), uint16(3), uint32(200), byte(1), false)
	f.Add([]byte("the state"), uint16(100), uint32(20), byte(255), false)
	f.Add(payload(1000), uint16(100), uint32(1500), byte(0), true)
	f.Fuzz(func(t *testing.T, data []byte, size uint16, at uint32, change byte, cut bool) {
		if change == 0 && !cut {
			return
		}
		whole := record(t, data, max(int(size), 1), json.RawMessage(`{"a":1}`))
		off := int(at) % len(whole)
		if cut {
			whole = whole[:off]
		} else {
			whole[off] ^= change
		}
		refuses(t, "fault", whole, data)
	})
}
