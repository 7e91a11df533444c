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

// Memory is a frame on each side, however long the stream: what 64 MiB
// allocate must not be more than what 8 MiB do, but for a little noise.
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
	allocated(1 << 20)
	short, long := allocated(8<<20), allocated(64<<20)
	if long > short+64<<10 || long > 4*MaxFrame {
		t.Errorf("64 MiB allocate %d bytes, 8 MiB %d", long, short)
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
