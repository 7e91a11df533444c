// SPDX-License-Identifier: Apache-2.0

package vfio_test

import (
	"fmt"
	"io"
	"testing"

	"kindred/host/vfio"
)

// flood is a device with as much state as is asked for, which costs next to
// nothing: what is measured is the loop around it.
type flood struct {
	*fake
	size, left int64
}

func (f *flood) SetState(to vfio.State) (vfio.Session, error) {
	f.state = to
	if to == vfio.StateStopCopy || to == vfio.StateResuming {
		f.left = f.size
		return f, nil
	}
	return nil, nil
}

func (f *flood) Read(p []byte) (int, error) {
	n := min(int64(len(p)), f.left)
	f.left -= n
	return int(n), nil
}

func (f *flood) Write(p []byte) (int, error)        { return len(p), nil }
func (f *flood) Precopy() (vfio.PrecopyInfo, error) { return vfio.PrecopyInfo{}, nil }
func (f *flood) Close() error                       { return nil }

func newFlood(size int64) *flood { return &flood{fake: newFake(), size: size} }

var directions = map[string]func(testing.TB, *flood){
	"save": func(t testing.TB, f *flood) {
		f.state = vfio.StateStop
		if _, err := vfio.Save(t.Context(), f, io.Discard, vfio.SaveOptions{}); err != nil {
			t.Fatal(err)
		}
	},
	"load": func(t testing.TB, f *flood) {
		f.state = vfio.StateStop
		if _, err := vfio.Load(t.Context(), f, &zeros{f.size}, vfio.LoadOptions{}); err != nil {
			t.Fatal(err)
		}
	},
}

// zeros reads as many as it says.
type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.left)
	z.left -= n
	return int(n), nil
}

// TestTransferAllocates as much for a gigabyte as for a megabyte.
func TestTransferAllocates(t *testing.T) {
	for name, do := range directions {
		small, large := newFlood(1<<20), newFlood(1<<30)
		for range 2 { // the pool's buffer
			do(t, small)
		}
		few := testing.AllocsPerRun(20, func() { do(t, small) })
		many := testing.AllocsPerRun(20, func() { do(t, large) })
		if many > few+2 { // a collection may empty the pool
			t.Errorf("%s: %v allocations for 1 GiB, %v for 1 MiB", name, many, few)
		}
	}
}

// BenchmarkTransfer measures what the loop costs besides the device: chunks are of 1 MiB.
func BenchmarkTransfer(b *testing.B) {
	for name, do := range directions {
		for _, size := range []int64{1 << 20, 1 << 30} {
			b.Run(fmt.Sprintf("%s/%dMiB", name, size>>20), func(b *testing.B) {
				f := newFlood(size)
				b.ReportAllocs()
				for b.Loop() {
					do(b, f)
				}
				b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(size>>20), "ns/chunk")
			})
		}
	}
}
