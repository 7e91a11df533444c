// SPDX-License-Identifier: Apache-2.0

//go:build linux

package prove

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"kindred/compat"
	"kindred/stream"
)

// TestBetween: a recording that was sent and received proves what it would have
// proved where it was made, and its two digests are one.
func TestBetween(t *testing.T) {
	engine := untried(t, true)
	for _, c := range []struct {
		from, to string
		want     compat.Result
	}{{"gen8", "gen9", compat.Accepted}, {"rel20", "gen8", compat.Rejected}} {
		from, to := small(t, c.from), small(t, c.to)
		p := prover(t, engine)
		r, _, err := p.Give(t.Context(), from.side())
		if err != nil {
			t.Fatal(err)
		}
		var line bytes.Buffer
		sent, err := r.Send(&line)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		there := prover(t, engine)
		got, received, err := there.Receive(&line)
		if err != nil {
			t.Fatal(err)
		}
		if sent == "" || sent != received {
			t.Errorf("sent %q, received %q", sent, received)
		}
		proof, err := there.Replay(t.Context(), got, to.side())
		if err := errors.Join(err, got.Close()); err != nil {
			t.Fatal(err)
		}
		if proof.Result != c.want || !proof.Controls {
			t.Errorf("%s to %s: %s, controls %v: %s", c.from, c.to, proof.Result, proof.Controls, proof.Detail)
		}
		if left := from.left(t) + to.left(t); left != "" {
			t.Errorf("left behind: %s", left)
		}
	}
}

// TestBetweenCut: what did not come whole is no recording, wherever it was cut or
// changed, and no file is left of it.
func TestBetweenCut(t *testing.T) {
	p := prover(t, untried(t, true))
	p.Scratch = t.TempDir()
	r, _, err := p.Give(t.Context(), small(t, "gen8").side())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var whole bytes.Buffer
	if _, err := r.Send(&whole); err != nil {
		t.Fatal(err)
	}
	data := whole.Bytes()
	for n := 0; n < len(data); n += 1 + len(data)/300 {
		if got, _, err := p.Receive(bytes.NewReader(data[:n])); err == nil {
			t.Errorf("cut at %d of %d, and taken: %d bytes", n, len(data), got.Size())
		}
		other := bytes.Clone(data)
		other[n] ^= 1
		if _, _, err := p.Receive(bytes.NewReader(other)); err == nil {
			t.Errorf("changed at %d, and taken", n)
		} else if _, ok := errors.AsType[*stream.Error](err); !ok {
			t.Errorf("changed at %d: %v", n, err)
		}
	}
	if left, err := os.ReadDir(p.Scratch); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	p.Scratch = "/nowhere"
	if _, _, err := p.Receive(bytes.NewReader(data)); err == nil {
		t.Error("received into no directory")
	}
}
