// SPDX-License-Identifier: Apache-2.0

//go:build linux

package prove

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kindred/compat"
	"kindred/compat/proofs"
	"kindred/stream"
)

// TestVoucher: a recording from elsewhere is replayed when a trusted key vouches
// for all of it, and for nothing less.
func TestVoucher(t *testing.T) {
	engine := untried(t, true)
	p := prover(t, engine)
	ctx := context.Background()
	from := small(t, "gen8").side()
	file := doctored(t, p, from, func(*Notes) {})
	other, err := proofs.NewPrivateKey("other", strings.NewReader(strings.Repeat("o", 32)))
	if err != nil {
		t.Fatal(err)
	}
	keys := []proofs.NamedKey{testKey.Public()}
	if _, err := OpenRecording(file, []proofs.NamedKey{other.Public()}); !errors.Is(err, ErrNotTrusted) {
		t.Errorf("by a key that nobody trusts: %v", err)
	}
	if _, err := OpenRecording(file, nil); !errors.Is(err, ErrNotTrusted) {
		t.Errorf("without keys: %v", err)
	}
	r, err := OpenRecording(file, keys)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := p.Replay(ctx, r, small(t, "gen9").side())
	if err != nil || proof.Result != compat.Accepted {
		t.Fatalf("%+v, %v", proof, err)
	}

	// Written anew with anything changed, and the voucher of before.
	state, err := r.open()
	if err != nil {
		t.Fatal(err)
	}
	payload, err := io.ReadAll(state)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(h *stream.Header, n *Notes, payload []byte){
		"nothing": func(*stream.Header, *Notes, []byte) {},
		"payload": func(_ *stream.Header, _ *Notes, p []byte) { p[len(p)-1] ^= 1 },
		"notes":   func(_ *stream.Header, n *Notes, _ []byte) { n.Worked = !n.Worked },
		"control": func(_ *stream.Header, n *Notes, _ []byte) { n.Control = &Attempt{Taken: true} },
		"time":    func(h *stream.Header, _ *Notes, _ []byte) { h.Made = h.Made.Add(1) },
		"build":   func(h *stream.Header, _ *Notes, _ []byte) { h.Inventory.Host.Name = "elsewhere" },
		"digest":  func(_ *stream.Header, n *Notes, _ []byte) { n.Voucher.Payload = strings.Repeat("0", 64) },
		"none":    func(_ *stream.Header, n *Notes, _ []byte) { n.Voucher = nil },
	} {
		again, err := OpenRecording(file, keys)
		if err != nil {
			t.Fatal(err)
		}
		h, n, data := again.header, again.notes, bytes.Clone(payload)
		change(h, n, data)
		changed, err := OpenRecording(written(t, h, n, data), keys)
		if (err == nil) != (name == "nothing") || err != nil && !errors.Is(err, ErrNotTrusted) {
			t.Errorf("%s changed: %v", name, err)
		}
		if err == nil {
			changed.Close()
		}
	}

	// A file that becomes another after it was verified is not committed.
	r.file = &damaged{data: swapped(t, r, payload), cut: -1, flip: -1}
	to := small(t, "gen9")
	a, err := p.replay(ctx, to.side(), r, whole)
	if err != nil || !a.Fault || to.commits != 0 {
		t.Errorf("a recording that was changed meanwhile: %+v, %v, %d commits", a, err, to.commits)
	}
}

// written is a stream of these parts, whole in itself.
func written(t *testing.T, h *stream.Header, n *Notes, payload []byte) *os.File {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "stream"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(container(t, h, n, payload)); err != nil {
		t.Fatal(err)
	}
	return file
}

// swapped is the recording's file with another state in it, as long as before.
func swapped(t *testing.T, r *Recording, payload []byte) []byte {
	other := bytes.Clone(payload)
	other[len(other)/2] ^= 1
	data := container(t, r.header, r.notes, other)
	if int64(len(data)) != r.length {
		t.Fatalf("%d bytes, want %d", len(data), r.length)
	}
	return data
}

func container(t *testing.T, h *stream.Header, n *Notes, payload []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := stream.NewWriter(&b, h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(payload); err != nil {
		t.Fatal(err)
	}
	trailer, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(trailer); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestFuture: the newest proof wins, so one from the future does not count.
func TestFuture(t *testing.T) {
	s := store(t)
	p := someProof("b")
	p.Time = time.Now().Add(2 * clocks)
	if _, err := s.Add(p); err == nil {
		entries, err := s.Entries()
		if err != nil || len(entries) != 1 || !errors.Is(entries[0].Err, ErrFuture) || len(Counting(entries)) > 0 {
			t.Errorf("%+v, %v", entries, err)
		}
	}
	f := &proofs.File{Proofs: []compat.Proof{*p}}
	if err := f.Sign(testKey); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(s.Site, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Site, "t.pub"), []byte(testKey.Public().String()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(f); !errors.Is(err, ErrFuture) {
		t.Errorf("imported: %v", err)
	}
}
