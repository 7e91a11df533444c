// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"io"
	"runtime"
	"testing"
)

// pattern gives n bytes that cost nothing to make.
type pattern struct {
	block []byte
	left  int64
}

func newPattern(n int64) *pattern { return &pattern{payload(1<<20 + 7), n} }

func (p *pattern) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(int64(len(b)), p.left)], p.block)
	p.left -= int64(n)
	return n, nil
}

// sink takes bytes, and has no shortcut for io.Copy.
type sink struct{ n int64 }

func (s *sink) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	return len(p), nil
}

// Memory is two batches on one side and a frame on the other, however long the
// stream: what 64 MiB allocate is no more than that.
func TestMemoryIsFlat(t *testing.T) {
	src := newPattern(0)
	allocated := func(n int64) uint64 {
		src.left = n
		r, w := io.Pipe()
		header := about()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		go func() {
			s, err := NewWriter(w, header)
			if err == nil {
				_, err = io.Copy(s, src)
			}
			if err == nil {
				err = s.Close(nil)
			}
			w.CloseWithError(err)
		}()
		s, err := NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		out := new(sink)
		if _, err := io.Copy(out, s); err != nil || out.n != n {
			t.Fatal(out.n, err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	allocated(1 << 20) // whatever is made once
	most := uint64(2*len(room{}) + 2*MaxFrame)
	if long := allocated(64 << 20); long > most {
		t.Errorf("64 MiB allocate %d bytes, more than %d", long, most)
	}
}

// Reading and writing many small pieces allocates nothing for each.
func TestSmallPieces(t *testing.T) {
	w, err := NewWriter(io.Discard, about())
	if err != nil {
		t.Fatal(err)
	}
	piece := payload(3000)
	if n := testing.AllocsPerRun(1000, func() { w.Write(piece) }); n >= 1 {
		t.Errorf("%v allocations for each write", n)
	}
	s, err := NewReader(bytes.NewReader(record(t, payload(4<<20), MaxFrame, nil))) // 1000 reads take three quarters
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() { s.Read(piece) }); n >= 1 {
		t.Errorf("%v allocations for each read", n)
	}
}
