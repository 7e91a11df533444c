// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

const (
	magic   = "\x89KDS\r\n\x1a\n" // as PNG's: a transfer as text breaks it
	version = 1

	startSize = len(magic) + 8
	headSize  = 32
	endSize   = 8 + 8 + 32

	// MaxFrame is the longest body of a frame. Frames of 1 MiB leave the nearer
	// caches before their sum is made: BenchmarkTLS is slower with them.
	MaxFrame = 1 << 18
	// fullFrame is the payload of a frame that is full: with its head it is a
	// whole number of TLS records, pages and blocks.
	fullFrame = MaxFrame - headSize
)

// The kinds of frames, in the order they come in.
const (
	headerFrame = iota + 1
	payloadFrame
	trailerFrame
	endFrame
)

var frameNames = map[uint32]string{headerFrame: "header", payloadFrame: "payload", trailerFrame: "trailer", endFrame: "end"}

// head is what precedes a frame's body.
type head struct {
	kind     uint32
	length   uint32
	sequence uint64
	sum      uint64 // of the body
}

func appendStart(b []byte) []byte {
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint32(b, version)
	return binary.BigEndian.AppendUint32(b, 0)
}

// put writes the head, with the sum over itself, to the beginning of b.
func (h *head) put(b []byte) {
	binary.BigEndian.PutUint32(b, h.kind)
	binary.BigEndian.PutUint32(b[4:], h.length)
	binary.BigEndian.PutUint64(b[8:], h.sequence)
	binary.BigEndian.PutUint64(b[16:], h.sum)
	binary.BigEndian.PutUint64(b[24:], xxhash.Sum64(b[:24]))
}

// parseHead is put's reverse. The error says what cannot be.
func parseHead(b []byte) (head, error) {
	if binary.BigEndian.Uint64(b[24:]) != xxhash.Sum64(b[:24]) {
		return head{}, fmt.Errorf("a frame's head does not match its sum")
	}
	h := head{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])}
	switch {
	case frameNames[h.kind] == "":
		return head{}, fmt.Errorf("a frame is of the unknown kind %d", h.kind)
	case h.length == 0, h.length > MaxFrame, h.kind == endFrame && h.length != endSize:
		return head{}, fmt.Errorf("a frame of the kind %s has %d bytes", frameNames[h.kind], h.length)
	}
	return h, nil
}

// follows reports whether a frame of kind may come after one of kind before.
func follows(before, kind uint32) bool {
	switch kind {
	case headerFrame:
		return before == 0
	case payloadFrame:
		return before == headerFrame || before == payloadFrame
	case trailerFrame:
		return before == headerFrame || before == payloadFrame
	}
	return before != 0 && before != endFrame
}
