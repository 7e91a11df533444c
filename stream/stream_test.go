// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kindred/inventory"
)

var equalValues = cmp.Comparer(func(a, b inventory.Value) bool { return a == b })

// about is a header for one device.
func about() *Header {
	name := inventory.TypeName{Namespace: "mtty", Name: "2"}
	inv := &inventory.Inventory{
		Schema: inventory.Schema, Origin: inventory.FromSimulator, Taken: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Host:    inventory.Host{Name: "a"},
		Modules: []inventory.Module{{Name: "mtty", BuildID: inventory.Of("0123")}},
		Parents: []inventory.Parent{{
			Name: "mtty", Path: "sys/devices/virtual/mtty/mtty", Kind: inventory.MdevParent, Namespace: "mtty", Modules: []string{"mtty"},
			Types: []inventory.Type{{TypeName: name, Creatable: inventory.Yes, ListedBy: inventory.ListedByKernel}},
		}},
		Devices: []inventory.Device{{ID: "d", Kind: inventory.Mdev, Parent: "mtty", Type: name, InUse: inventory.No}},
	}
	inv, err := inv.Extract("d")
	if err != nil {
		panic(err)
	}
	return &Header{Made: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), By: "test", Inventory: inv}
}

func payload(n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(p)
	return p
}

// record writes a stream of frames of that size.
func record(t testing.TB, data []byte, size int, trailer json.RawMessage) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := newWriter(&b, about(), size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(trailer); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// read reads a stream to whatever end; the error is nil at a clean one.
func read(r io.Reader) (*Reader, []byte, error) {
	s, err := NewReader(r)
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(s)
	return s, data, err
}

// refuses wants an error with a kind, no clean end, and nothing handed out
// that was not written.
func refuses(t *testing.T, what string, data, written []byte) {
	t.Helper()
	s, got, err := read(bytes.NewReader(data))
	e, ok := errors.AsType[*Error](err)
	if !ok || errors.Is(err, io.EOF) {
		t.Fatalf("%s: %v", what, err)
	}
	if words[e.Kind] == "" {
		t.Fatalf("%s: kind %q", what, e.Kind)
	}
	if !bytes.HasPrefix(written, got) {
		t.Fatalf("%s: %d bytes were handed out that were not written", what, len(got))
	}
	if s == nil {
		return
	}
	if s.Trailer() != nil {
		t.Fatalf("%s: a trailer without an end", what)
	}
	if n, again := s.Read(make([]byte, 1)); n != 0 || again != err {
		t.Fatalf("%s: the error did not stay: %d, %v", what, n, again)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 99, 100, 101, 1000, 3*MaxFrame + 7} {
		for _, size := range []int{1, 100, fullFrame, MaxFrame} {
			if n/size > 10000 {
				continue
			}
			for _, trailer := range []json.RawMessage{nil, json.RawMessage(`{"grade": "fresh-state"}`)} {
				data := payload(n)
				whole := record(t, data, size, trailer)
				for name, r := range map[string]io.Reader{
					"plain": bytes.NewReader(whole), "with EOF": iotest.DataErrReader(bytes.NewReader(whole)), "halves": iotest.HalfReader(bytes.NewReader(whole)),
				} {
					s, got, err := read(r)
					if err != nil {
						t.Fatalf("%d bytes in frames of %d, %s: %v", n, size, name, err)
					}
					if !bytes.Equal(got, data) || !bytes.Equal(s.Trailer(), trailer) {
						t.Errorf("%d bytes in frames of %d, %s: came back different", n, size, name)
					}
					if diff := cmp.Diff(about().Inventory, s.Header().Inventory, equalValues, cmpopts.EquateEmpty()); diff != "" {
						t.Error(diff)
					}
					if h := s.Header(); !h.Made.Equal(about().Made) || h.By != "test" || !h.Simulated() || h.Device().ID != "d" {
						t.Errorf("%+v", h)
					}
				}
			}
		}
	}
}

// However the payload comes in and goes out, the stream is the same.
func TestSegmentation(t *testing.T) {
	data := payload(1000)
	want := record(t, data, 64, nil)
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var b bytes.Buffer
		w, err := newWriter(&b, about(), 64)
		if err != nil {
			t.Fatal(err)
		}
		for rest := data; len(rest) > 0; {
			n := min(r.IntN(200), len(rest))
			if r.IntN(2) == 0 {
				if k, err := w.Write(rest[:n]); k != n || err != nil {
					t.Fatal(k, err)
				}
			} else if k, err := w.ReadFrom(iotest.HalfReader(bytes.NewReader(rest[:n]))); k != int64(n) || err != nil {
				t.Fatal(k, err)
			}
			rest = rest[n:]
		}
		if err := w.Close(nil); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Bytes(), want) {
			t.Fatal("another stream of the same payload")
		}
		s, err := NewReader(bytes.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, r.IntN(300))
		if _, err := io.ReadFull(s, got); err != nil {
			t.Fatal(err)
		}
		var rest bytes.Buffer
		if n, err := s.WriteTo(&rest); err != nil || int(n) != rest.Len() {
			t.Fatal(n, err)
		}
		if !bytes.Equal(append(got, rest.Bytes()...), data) {
			t.Fatal("other payload came back")
		}
	}
}

// borders are the offsets at which frames begin, and the end.
func borders(t testing.TB, whole []byte) []int {
	t.Helper()
	at := []int{startSize}
	for off := startSize; off < len(whole); {
		h, err := parseHead(whole[off:])
		if err != nil {
			t.Fatal(err)
		}
		off += headSize + int(h.length)
		at = append(at, off)
	}
	return at
}

// A stream that ends at any byte but its last is cut.
func TestEveryCut(t *testing.T) {
	data := payload(500)
	whole := record(t, data, 100, json.RawMessage(`[1,2]`))
	for n := range whole {
		refuses(t, fmt.Sprintf("cut at %d", n), whole[:n], data)
		_, _, err := read(bytes.NewReader(whole[:n]))
		if e, _ := errors.AsType[*Error](err); e.Kind != Cut || e.Err != io.ErrUnexpectedEOF {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	for _, n := range borders(t, whole) {
		if n < len(whole) {
			_, _, err := read(iotest.TimeoutReader(io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(fmt.Errorf("wrapped: %w", io.EOF)))))
			if err == nil || errors.Is(err, io.EOF) {
				t.Fatalf("cut at %d by an error that wraps io.EOF: %v", n, err)
			}
		}
	}
}

// Every bit of a stream counts.
func TestEveryFlip(t *testing.T) {
	data := payload(300)
	whole := record(t, data, 100, json.RawMessage(`{"a":1}`))
	for n := range whole {
		for bit := range 8 {
			broken := bytes.Clone(whole)
			broken[n] ^= 1 << bit
			refuses(t, fmt.Sprintf("bit %d of byte %d", bit, n), broken, data)
		}
	}
}

// Frames that are whole in themselves, but not where they belong.
func TestEveryOrder(t *testing.T) {
	data := payload(500)
	whole := record(t, data, 100, json.RawMessage(`{"a":1}`))
	at := borders(t, whole)
	frame := func(i int) []byte { return whole[at[i]:at[i+1]] }
	frames := len(at) - 1
	join := func(list ...int) []byte {
		out := bytes.Clone(whole[:startSize])
		for _, i := range list {
			out = append(out, frame(i)...)
		}
		return out
	}
	var all []int
	for i := range frames {
		all = append(all, i)
	}
	if !bytes.Equal(join(all...), whole) {
		t.Fatal("the frames do not make the stream")
	}
	for i := range frames {
		refuses(t, fmt.Sprintf("without frame %d", i), join(append(append([]int{}, all[:i]...), all[i+1:]...)...), data)
		refuses(t, fmt.Sprintf("frame %d twice", i), join(append(append([]int{}, all[:i+1]...), all[i:]...)...), data)
		for j := range i {
			swapped := append([]int{}, all...)
			swapped[i], swapped[j] = swapped[j], swapped[i]
			refuses(t, fmt.Sprintf("frames %d and %d swapped", j, i), join(swapped...), data)
		}
	}
	refuses(t, "a byte after the end", append(bytes.Clone(whole), 0), data)
	refuses(t, "the stream twice", append(bytes.Clone(whole), whole...), data)
	// A frame of the same place in another stream is whole in itself, and stands where it belongs.
	other := payload(500)
	other[250]++
	foreign := record(t, other, 100, json.RawMessage(`{"a":1}`))
	mixed := append(append(bytes.Clone(whole[:at[3]]), foreign[at[3]:at[4]]...), whole[at[4]:]...)
	_, _, err := read(bytes.NewReader(mixed))
	if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Corrupt {
		t.Errorf("a frame of another stream: %v", err)
	}
}

// Long streams, thousands of random faults.
func TestRandomFaults(t *testing.T) {
	data := payload(300_000)
	whole := record(t, data, 10_000, json.RawMessage(`{"a":1}`))
	r := rand.New(rand.NewPCG(3, 4))
	tries := 4000
	if testing.Short() {
		tries = 400
	}
	for range tries {
		off, what := r.IntN(len(whole)), 1+r.IntN(255)
		switch r.IntN(3) {
		case 0:
			whole[off] ^= byte(what)
			refuses(t, fmt.Sprintf("byte %d changed by %#x", off, what), whole, data)
			whole[off] ^= byte(what)
		case 1:
			refuses(t, fmt.Sprintf("cut at %d", off), whole[:off], data)
		case 2: // a piece is missing in the middle
			n := 1 + r.IntN(min(len(whole)-off, 30_000))
			refuses(t, fmt.Sprintf("%d bytes missing at %d", n, off), append(bytes.Clone(whole[:off]), whole[off+n:]...), data)
		}
	}
}

// What a faulty writer could make, with all sums right.
func TestWrongWithRightSums(t *testing.T) {
	resum := func(b []byte, off int, change func(head, body []byte)) []byte {
		b = bytes.Clone(b)
		h, err := parseHead(b[off:])
		if err != nil {
			t.Fatal(err)
		}
		body := b[off+headSize:][:h.length]
		change(b[off:off+headSize], body)
		binary.BigEndian.PutUint64(b[off+16:], xxhash.Sum64(body))
		binary.BigEndian.PutUint64(b[off+24:], xxhash.Sum64(b[off:off+24]))
		return b
	}
	whole := record(t, payload(10), 100, json.RawMessage(`{"a":1}`))
	at := borders(t, whole)
	for name, c := range map[string]struct {
		data []byte
		kind Kind
	}{
		"empty":                    {nil, Cut},
		"text":                     {[]byte("hello, this is a text and no stream"), NotStream},
		"short text":               {[]byte("hello"), NotStream},
		"another version":          {append([]byte(magic+"\x00\x00\x00\x02"), whole[len(magic)+4:]...), TooNew},
		"version zero":             {append([]byte(magic+"\x00\x00\x00\x00"), whole[len(magic)+4:]...), Corrupt},
		"another header":           {resum(whole, at[0], func(_, b []byte) { copy(b[bytes.Index(b, []byte(Schema)):], "kindred.stream/v2") }), TooNew},
		"another inventory":        {resum(whole, at[0], func(_, b []byte) { copy(b[bytes.Index(b, []byte(inventory.Schema)):], "kindred.inventory/v2") }), TooNew},
		"an unknown key":           {resum(whole, at[0], func(_, b []byte) { copy(b[bytes.Index(b, []byte(`"made"`)):], `"maid"`) }), Corrupt},
		"a header that is no JSON": {resum(whole, at[0], func(_, b []byte) { b[0] = 'x' }), Corrupt},
		"other payload":            {resum(whole, at[1], func(_, b []byte) { b[0]++ }), Corrupt},
		"a trailer that is none":   {resum(whole, at[2], func(_, b []byte) { b[0] = 'x' }), Corrupt},
		"another total":            {resum(whole, at[3], func(_, b []byte) { b[7]++ }), Corrupt},
		"an unknown frame":         {resum(whole, at[1], func(h, _ []byte) { h[3] = 9 }), Corrupt},
		"payload as a trailer":     {resum(whole, at[1], func(h, _ []byte) { h[3] = trailerFrame }), Corrupt},
		"a frame of no bytes":      {resum(whole, at[1], func(h, _ []byte) { binary.BigEndian.PutUint32(h[4:], 0) }), Corrupt},
		"a frame beyond the bound": {resum(whole, at[1], func(h, _ []byte) { binary.BigEndian.PutUint32(h[4:], MaxFrame+1) }), Corrupt},
	} {
		_, _, err := read(bytes.NewReader(c.data))
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != c.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	for name, change := range map[string]func(*Header){
		"no inventory":  func(h *Header) { h.Inventory = nil },
		"no version":    func(h *Header) { h.By = "" },
		"no time":       func(h *Header) { h.Made = time.Time{} },
		"no device":     func(h *Header) { h.Inventory.Devices = nil },
		"two devices":   func(h *Header) { h.Inventory.Devices = append(h.Inventory.Devices, inventory.Device{ID: "e"}) },
		"a copy":        func(h *Header) { h.Inventory.Origin = inventory.FromTree },
		"a bad device":  func(h *Header) { h.Inventory.Devices[0].Parent = "moon" },
		"a huge header": func(h *Header) { h.By = string(bytes.Repeat([]byte("x"), MaxFrame)) },
	} {
		h := about()
		change(h)
		var b bytes.Buffer
		if _, err := NewWriter(&b, h); err == nil || b.Len() > 0 {
			t.Errorf("%s: %v, %d bytes written", name, err, b.Len())
		}
	}
	w, err := NewWriter(io.Discard, about())
	if err != nil {
		t.Fatal(err)
	}
	for _, trailer := range []string{"{", "x", `"` + string(bytes.Repeat([]byte("x"), MaxFrame)) + `"`} {
		if w.Close(json.RawMessage(trailer)) == nil {
			t.Errorf("took a trailer of %d bytes", len(trailer))
		}
	}
	if err := w.Close(nil); err != nil {
		t.Error(err)
	}
	if w.Close(nil) == nil {
		t.Error("ended twice")
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("took payload after the end")
	}
}

// failing takes n bytes.
type failing struct{ n int }

var errFull = errors.New("no space left")

func (f *failing) Write(p []byte) (int, error) {
	n := min(len(p), f.n)
	f.n -= n
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

// A writer that failed once never ends its stream.
func TestWriterFails(t *testing.T) {
	data := payload(300)
	whole := record(t, data, 100, json.RawMessage(`1`))
	for n := range whole {
		w, err := newWriter(&failing{n}, about(), 100)
		if err == nil {
			_, err = w.Write(data)
			if end := w.Close(json.RawMessage(`1`)); !errors.Is(end, errFull) {
				t.Fatalf("full after %d bytes: %v at the end", n, end)
			}
			if err == nil {
				continue // the end alone failed
			}
		}
		if !errors.Is(err, errFull) {
			t.Fatalf("full after %d bytes: %v", n, err)
		}
	}
}

// An error of what carries the stream is that error, not the stream's.
func TestReaderFails(t *testing.T) {
	whole := record(t, payload(300), 100, nil)
	broken := errors.New("connection reset")
	for n := range len(whole) + 1 {
		_, _, err := read(io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(broken)))
		if _, is := errors.AsType[*Error](err); is && n >= len(magic) || !is && !errors.Is(err, broken) {
			t.Fatalf("broken after %d bytes: %v", n, err)
		}
	}
}

// A stream of version 1 that was written once is read for ever.
func TestVersion1(t *testing.T) {
	file, err := os.Open("testdata/v1.stream")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s, got, err := read(file)
	if err != nil || !bytes.Equal(got, payload(30)) || string(s.Trailer()) != `{"a":1}` {
		t.Errorf("%v, %d bytes, trailer %s", err, len(got), s.Trailer())
	}
}

// TestDigest: the writer's and the reader's are one, and no other stream's.
func TestDigest(t *testing.T) {
	seen := make(map[string]bool)
	for _, data := range [][]byte{nil, payload(10), payload(11), payload(3000)} {
		var b bytes.Buffer
		w, err := newWriter(&b, about(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if w.Digest() != "" {
			t.Error("a stream has a digest before its end")
		}
		if err := w.Close(nil); err != nil {
			t.Fatal(err)
		}
		r, err := NewReader(&b)
		if err != nil {
			t.Fatal(err)
		}
		if r.Digest() != "" {
			t.Error("a stream has a digest before its end")
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
		if w.Digest() == "" || r.Digest() != w.Digest() || seen[w.Digest()] {
			t.Errorf("%d bytes: written %q, read %q", len(data), w.Digest(), r.Digest())
		}
		seen[w.Digest()] = true
	}
}
