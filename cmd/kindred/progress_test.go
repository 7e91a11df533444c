// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"kindred/prove"
)

func TestProgressText(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		bytes, total int64
		took         time.Duration
		want         string
	}{
		{0, 0, 0, ": 0 B"},
		{512, 0, time.Millisecond, ": 512 B"},
		{100 * mib, 0, time.Second, ": 100.0 MiB, 100.0 MiB/s"},
		{100 * mib, 400 * mib, time.Second, ": 100.0 MiB of 400.0 MiB, 100.0 MiB/s, 3s left"},
		{400 * mib, 400 * mib, 4 * time.Second, ": 400.0 MiB of 400.0 MiB, 100.0 MiB/s"},
		{3 << 40, 0, time.Millisecond, ": 3.0 TiB"},
	} {
		if got := progressText(c.bytes, c.total, c.took); got != c.want {
			t.Errorf("%d of %d in %s: %q, want %q", c.bytes, c.total, c.took, got, c.want)
		}
	}
}

// TestProgress: elsewhere than on a terminal it is quiet; on one it is a line
// that is written over and taken away.
func TestProgress(t *testing.T) {
	if p := newProgress(new(bytes.Buffer)); p != nil {
		t.Error("progress without a terminal")
	}
	var none *progress
	none.end()
	var out bytes.Buffer
	p := &progress{to: &out}
	p.step(prove.Step{What: "record a\x1b[2J", Bytes: 5})
	p.step(prove.Step{What: "record a\x1b[2J", Bytes: 6}) // too soon
	p.step(prove.Step{What: "replay", Bytes: 0, Total: 6})
	p.end()
	if got, want := out.String(), "\r\x1b[Krecord a\\x1b[2J: 5 B\r\x1b[Kreplay: 0 B of 6 B\r\x1b[K"; got != want || strings.Contains(got, "\n") {
		t.Errorf("%q, want %q", got, want)
	}
}
