// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"kindred/host/vfio"
)

// saved is the whole stream of a device, read by hand.
func saved(t testing.TB, d vfio.Device) []byte {
	t.Helper()
	s, err := d.SetState(vfio.StateStopCopy)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	p := make([]byte, 70_001)
	for {
		n, err := s.Read(p)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		out.Write(p[:n])
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.SetState(vfio.StateRunning); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// load writes a stream by hand, whatever each write says, and lets the device
// run. The first error of a write, and the one of the end.
func load(t testing.TB, d vfio.Device, data []byte, piece int) (write, end error) {
	t.Helper()
	s, err := d.SetState(vfio.StateResuming)
	if err != nil {
		t.Fatal(err)
	}
	for len(data) > 0 {
		n := min(piece, len(data))
		if _, err := s.Write(data[:n]); err != nil && write == nil {
			write = err
		}
		data = data[n:]
	}
	_, end = d.SetState(vfio.StateRunning)
	return write, end
}

func seen(t testing.TB, d vfio.Device) string {
	t.Helper()
	text, err := Seen(d)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func work(t testing.TB, d vfio.Device, n int) {
	t.Helper()
	if err := Work(d, 7, n); err != nil {
		t.Fatal(err)
	}
}

// The same work makes the same device, other work another.
func TestWorkIsSeen(t *testing.T) {
	a, b := open(t, "gen8"), open(t, "gen8")
	fresh := seen(t, a)
	if seen(t, b) != fresh {
		t.Error("two new devices differ")
	}
	work(t, a, 5)
	if seen(t, a) == fresh {
		t.Error("work is not seen")
	}
	work(t, b, 5)
	if seen(t, a) != seen(t, b) {
		t.Error("the same work makes different devices")
	}
	if err := a.Reset(); err != nil || seen(t, a) != fresh {
		t.Error("a reset leaves work", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := b.State(); !errors.Is(err, unix.EBADF) {
		t.Errorf("a closed device: %v", err)
	}
	if err := b.Close(); !errors.Is(err, unix.EBADF) {
		t.Errorf("closed twice: %v", err)
	}
}

// Registers do not take work while the device is stopped; config space does.
func TestStopped(t *testing.T) {
	for _, s := range []vfio.State{sStop, sStopCopy, sResuming} {
		d := into(t, "gen8", s)
		if err := Work(d, 1, 1); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: %v", s, err)
		}
		if err := d.WriteRegion(vfio.RegionConfig, 4, []byte{6, 0}); err != nil {
			t.Errorf("%s: %v", s, err)
		}
		got := make([]byte, 2)
		if err := d.ReadRegion(vfio.RegionConfig, 4, got); err != nil || got[0] != 6 {
			t.Errorf("%s: %v, %v", s, got, err)
		}
		if err := d.ReadRegion(barRegisters, registers-1, got); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%s: beyond the end: %v", s, err)
		}
	}
}

func TestStreams(t *testing.T) {
	source := open(t, "gen8")
	work(t, source, 9)
	want := seen(t, source)
	data := saved(t, source)
	fresh := seen(t, open(t, "gen8"))
	if size, err := source.DataSize(); err != nil || int(size) != len(data) {
		t.Errorf("size %d, %v, of %d", size, err, len(data))
	}
	if seen(t, source) != want {
		t.Error("saving changed the device")
	}
	flipped := bytes.Clone(data)
	flipped[500_000]++
	for _, c := range []struct {
		name, build string
		data        []byte
		write, end  error
		sees        string // "": something else than it should
	}{
		{"whole", "gen8", data, nil, nil, want},
		{"nothing", "gen8", nil, nil, unix.EINVAL, fresh},
		{"cut in the header", "gen8", data[:20], nil, unix.EINVAL, fresh},
		{"cut by a byte", "gen8", data[:len(data)-1], nil, unix.EINVAL, fresh},
		{"too long", "gen8", append(bytes.Clone(data), 0), unix.ENOMEM, unix.EINVAL, fresh},
		{"changed", "gen8", flipped, nil, unix.EINVAL, fresh},
		{"changed, unnoticed", "blind", flipped, nil, nil, ""},
		{"cut, unnoticed", "cut", data[:len(data)-1], nil, nil, ""},
		{"nothing, unnoticed", "cut", nil, nil, nil, fresh},
		{"an older major", "rel20", data, unix.EINVAL, unix.EINVAL, fresh},
		{"a newer minor takes it", "rel11", data, nil, nil, want},
		{"two majors", "rel21", data, nil, nil, want},
		{"a feature is missing", "poor", data, unix.EINVAL, unix.EINVAL, ""},
		{"anything", "anything", []byte("hello"), nil, nil, ""},
		{"whole into anything", "anything", data, nil, nil, want},
		{"whole into one that forgets", "forgets", data, nil, nil, want},
	} {
		for _, piece := range []int{7, 4096, len(c.data) + 1} {
			if piece == 7 && len(c.data) > 1000 && testing.Short() {
				continue
			}
			d := open(t, c.build)
			write, end := load(t, d, c.data, piece)
			if !errors.Is(write, c.write) || c.write == nil && write != nil || !errors.Is(end, c.end) || c.end == nil && end != nil {
				t.Errorf("%s, %d bytes at a time: write %v, end %v", c.name, piece, write, end)
			}
			if end != nil {
				if s, _ := d.State(); s != sResuming {
					t.Errorf("%s: left in %s", c.name, s)
				}
				if err := d.Reset(); err != nil {
					t.Error(err)
				}
			}
			got := seen(t, d)
			switch {
			case c.sees != "" && got != c.sees:
				t.Errorf("%s, %d bytes at a time: the guest sees something else", c.name, piece)
			case c.sees == "" && (got == want || got == fresh && c.end == nil):
				t.Errorf("%s, %d bytes at a time: the guest sees nothing", c.name, piece)
			}
		}
	}
}

// The trap of mtty and qat: after a refusal the rest is taken, and runs.
func TestForgets(t *testing.T) {
	source, _ := openOn(t, "rel20", "V4")
	work(t, source, 3)
	data := saved(t, source)
	d := open(t, "forgets")
	write, end := load(t, d, data, 4096)
	if !errors.Is(write, unix.EFAULT) || end != nil {
		t.Errorf("write %v, end %v", write, end)
	}
	if seen(t, d) == seen(t, source) {
		t.Error("and the guest sees nothing")
	}
}

// State and contents of a driver that keeps them outlive a close.
func TestKept(t *testing.T) {
	for build, kept := range map[string]bool{"gen8": false, "forgets": true} {
		d, m := openOn(t, build, "V4")
		fresh := seen(t, d)
		work(t, d, 2)
		worked := seen(t, d)
		if _, err := d.SetState(vfio.StateStop); err != nil {
			t.Fatal(err)
		}
		id := d.(*device).id
		if _, err := m.Open(id); !errors.Is(err, unix.EBUSY) {
			t.Errorf("opened twice: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := m.Open(id)
		if err != nil {
			t.Fatal(err)
		}
		state, err := again.State()
		if err != nil {
			t.Fatal(err)
		}
		if kept && (state != sStop || seen(t, again) != worked) || !kept && (state != sRunning || seen(t, again) != fresh) {
			t.Errorf("%s: %s after it was opened again", build, state)
		}
		again.Close()
	}
}

func TestPreCopy(t *testing.T) {
	for build, zero := range map[string]bool{"gen8": false, "forgets": true} {
		d := open(t, build)
		s, err := d.SetState(vfio.StatePreCopy)
		if err != nil {
			t.Fatal(err)
		}
		info, err := s.Precopy()
		if err != nil || info.Initial != imageHeader || info.Dirty != 0 {
			t.Errorf("%+v, %v", info, err)
		}
		p := make([]byte, 100)
		if n, err := s.Read(p); n != imageHeader || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if info, err = s.Precopy(); err != nil || info.Initial != 0 {
			t.Errorf("%+v, %v", info, err)
		}
		if n, err := s.Read(p); n != 0 || zero && err != nil || !zero && !errors.Is(err, unix.ENOMSG) {
			t.Errorf("%s: at the end %d, %v", build, n, err)
		}
		if next, err := d.SetState(vfio.StateStopCopy); next != nil || err != nil {
			t.Errorf("another session: %v, %v", next, err)
		}
		if _, err := s.Precopy(); !errors.Is(err, unix.EINVAL) {
			t.Errorf("outside of PRE_COPY: %v", err)
		}
		if n, err := s.Read(p); n != 100 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if _, err := s.Write(p); !errors.Is(err, unix.EBADF) {
			t.Errorf("written to a session that saves: %v", err)
		}
		if _, err := d.SetState(vfio.StateStop); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(p); !errors.Is(err, unix.ENODEV) {
			t.Errorf("after the session: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := s.Read(p); !errors.Is(err, unix.EBADF) {
			t.Errorf("closed: %v", err)
		}
	}
}

func TestNotMigratable(t *testing.T) {
	d := open(t, "nomig")
	if _, err := d.Migration(); !errors.Is(err, vfio.ErrNotMigratable) || !errors.Is(err, unix.ENOTTY) {
		t.Error(err)
	}
	if _, err := d.SetState(vfio.StateStop); !errors.Is(err, unix.ENOTTY) {
		t.Error(err)
	}
}

// Memory of a gigabyte takes none, and is the same from any offset.
func TestLargeMemory(t *testing.T) {
	c := newContents(&Type{})
	c.feed(5)
	whole := make([]byte, 1000)
	c.memory(whole, 1<<30-1000)
	for at := range 40 {
		part := make([]byte, 57)
		c.memory(part, uint64(1<<30-1000+at))
		if !bytes.Equal(part, whole[at:at+57]) {
			t.Fatalf("at %d", at)
		}
	}
	d, err := Build("gen8")
	if err != nil {
		t.Fatal(err)
	}
	d.Types[0].Memory = 1 << 30
	s := newState("large", d, &d.Types[0], new(Faults), func(string) {})
	m, l := imageOf(d, s.typ, s.contents.features), newLoading(d, s.typ)
	p := make([]byte, 1<<16)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for at := uint64(0); at < 1<<24; {
		n := m.read(&d.Migration, &s.contents, p, at)
		if _, err := l.write(p[:n]); err != nil {
			t.Fatal(err)
		}
		at += uint64(n)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("16 MiB of state allocate %d bytes", n)
	}
}

// BenchmarkSave and BenchmarkLoad move a state of 1 GiB.
func BenchmarkSave(b *testing.B) {
	b.SetBytes(1 << 30)
	d := large(b)
	for b.Loop() {
		if _, err := vfio.Save(context.Background(), d, io.Discard, vfio.SaveOptions{}); err != nil {
			b.Fatal(err)
		}
		if _, err := d.SetState(vfio.StateRunning); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	b.SetBytes(1 << 30)
	source, target := large(b), large(b)
	for b.Loop() {
		r, w := io.Pipe()
		go func() {
			_, err := vfio.Save(context.Background(), source, w, vfio.SaveOptions{SkipPreCopy: true})
			w.CloseWithError(err)
		}()
		if _, err := vfio.Load(context.Background(), target, r, vfio.LoadOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func large(b *testing.B) vfio.Device {
	d, err := Build("gen8")
	if err != nil {
		b.Fatal(err)
	}
	d.Types[0].Memory = 1 << 30
	m, err := New(Setup{Name: "large", Parents: []Parent{{Name: "sim0", Driver: d}}})
	if err != nil {
		b.Fatal(err)
	}
	return create(b, m, "V4", 1)
}

// Closing the session, or the device, ends an operation that waits.
func TestStall(t *testing.T) {
	for _, op := range []Op{OpRead, OpWrite, OpSetState, OpState} {
		for _, closeDevice := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				d, m := openOn(t, "gen8", "V4")
				to := vfio.StateStopCopy
				if op == OpWrite {
					to = vfio.StateResuming
				}
				s, err := d.SetState(to)
				if err != nil {
					t.Fatal(err)
				}
				stalled := m.Faults.Set(Fault{Op: op, N: 1, Stall: true})
				done := make(chan error)
				go func() {
					var err error
					switch op {
					case OpRead:
						_, err = s.Read(make([]byte, 10))
					case OpWrite:
						_, err = s.Write(make([]byte, 10))
					case OpSetState:
						_, err = d.SetState(vfio.StateStop)
					case OpState:
						_, err = d.State()
					}
					done <- err
				}()
				<-stalled
				synctest.Wait()
				select {
				case err := <-done:
					t.Fatalf("%s did not wait: %v", op, err)
				default:
				}
				var end io.Closer = s
				if closeDevice || op == OpSetState || op == OpState {
					end = d
				}
				if err := end.Close(); err != nil {
					t.Error(err)
				}
				if err := <-done; !errors.Is(err, unix.EINTR) {
					t.Errorf("%s: %v", op, err)
				}
			})
		}
	}
}
