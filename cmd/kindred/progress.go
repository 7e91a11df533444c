// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"kindred/prove"
)

// progress shows what long work is at on a terminal: one line that is written
// over, with rate and time left. Elsewhere it is quiet.
type progress struct {
	to    io.Writer
	what  string
	begun time.Time
	shown time.Time
}

// newProgress returns nil where stderr is no terminal.
func newProgress(stderr io.Writer) *progress {
	f, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return &progress{to: f}
}

const progressEvery = 200 * time.Millisecond

func (p *progress) step(s prove.Step) {
	now := time.Now()
	if s.What != p.what {
		p.what, p.begun = s.What, now
	} else if now.Sub(p.shown) < progressEvery {
		return
	}
	p.shown = now
	fmt.Fprint(p.to, "\r\x1b[K"+clean(s.What)+progressText(s.Bytes, s.Total, now.Sub(p.begun)))
}

// say shows what it is at, where nobody tells how much of it is done.
func (p *progress) say(what string) {
	if p == nil || what == p.what {
		return
	}
	p.what = what
	fmt.Fprint(p.to, "\r\x1b[K"+clean(what))
}

// progressText is amount, rate and time left, as far as they are known.
func progressText(bytes, total int64, took time.Duration) string {
	text := ": " + sizeText(bytes)
	if total > 0 {
		text += " of " + sizeText(total)
	}
	if took < progressEvery || bytes == 0 {
		return text
	}
	rate := float64(bytes) / took.Seconds()
	text += fmt.Sprintf(", %s/s", sizeText(int64(rate)))
	if left := total - bytes; left > 0 {
		text += fmt.Sprintf(", %s left", time.Duration(float64(left)/rate*float64(time.Second)).Round(time.Second))
	}
	return text
}

// end clears the line.
func (p *progress) end() {
	if p != nil && p.what != "" {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}

// sizeText is a number of bytes for people.
func sizeText(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}
