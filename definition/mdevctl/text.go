// SPDX-License-Identifier: Apache-2.0

package mdevctl

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
	"unicode"
)

// errClosed is a reader that went away, which is no failure: mdevctl panics.
const errClosed = syscall.EPIPE

// reason is an error without the path that is said already.
func reason(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok && err == error(p) {
		return p.Err.Error()
	}
	return err.Error()
}

// visible escapes what a terminal could act on, but for line ends: messages of
// scripts have several lines.
func visible(text string) string {
	var b strings.Builder
	for _, c := range text {
		if c == '\n' || c == '\t' || unicode.IsPrint(c) {
			b.WriteRune(c)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(c)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}
