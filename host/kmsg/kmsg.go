// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package kmsg listens to the kernel's log. A driver that refuses a state
// returns a bare errno to its caller; the log is the only place where it says
// why (Documentation/ABI/testing/dev-kmsg).
package kmsg

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	device    = "/dev/kmsg"
	maxRecord = 8 << 10 // the longest record that the kernel gives (CONSOLE_EXT_LOG_MAX)
	maxLines  = 1000    // kept of one hearing; a driver that floods says little with it
)

// Listener hears what the kernel logs from when it was opened.
type Listener struct{ fd int }

// Listen begins at the log's end.
func Listen() (*Listener, error) {
	fd, err := unix.Open(device, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: device, Err: err}
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "seek", Path: device, Err: err}
	}
	return &Listener{fd}, nil
}

// Lines are the messages since Listen or the last call, without time and
// level. Messages that the kernel's buffer lost meanwhile are a line that says
// so.
func (l *Listener) Lines() []string {
	var lines []string
	buf := make([]byte, maxRecord)
	for len(lines) < maxLines {
		n, err := unix.Read(l.fd, buf)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EPIPE): // the next read goes on with the oldest there is
			lines = append(lines, "(messages were lost: the kernel's buffer is too small)")
		case err != nil || n == 0:
			return lines
		default:
			if text, ok := message(string(buf[:n])); ok {
				lines = append(lines, text)
			}
		}
	}
	return append(lines, fmt.Sprintf("(more than %d messages)", maxLines))
}

// message takes a record apart: "level,sequence,time,flags;text", then lines
// of further values that begin with a blank.
func message(record string) (string, bool) {
	_, text, ok := strings.Cut(record, ";")
	text, _, _ = strings.Cut(text, "\n")
	return text, ok
}

// Close ends the listening.
func (l *Listener) Close() error { return unix.Close(l.fd) }

// About picks the lines in which one of the words occurs.
func About(lines, words []string) []string {
	var about []string
	for _, line := range lines {
		for _, w := range words {
			if w != "" && strings.Contains(line, w) {
				about = append(about, line)
				break
			}
		}
	}
	return about
}
