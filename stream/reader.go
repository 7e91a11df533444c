// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/cespare/xxhash/v2"
)

// Reader reads one stream. After an error, or io.EOF, it stays there.
type Reader struct {
	r       io.Reader
	header  *Header
	trailer json.RawMessage
	head    [headSize]byte
	buf     []byte // one frame's body
	rest    []byte // the part of buf that is to be handed out
	into    []byte // where a Read wants payload, if it is large enough
	digest  hash.Hash
	last    uint32 // kind of the frame before
	next    uint64 // sequence of the next frame
	offset  int64  // where the frame begins that is being read
	payload uint64
	frames  uint64
	sum     []byte // the digest that the end has
	err     error
}

// NewReader reads the beginning of a stream, with its header. The stream ends
// where r does: on a connection its writer has to close its side, as with
// tls.Conn's CloseWrite.
func NewReader(r io.Reader) (*Reader, error) {
	s := &Reader{r: r, digest: sha256.New()}
	var start [startSize]byte
	if n, err := io.ReadFull(r, start[:]); err != nil {
		if !bytes.HasPrefix([]byte(magic), start[:min(n, len(magic))]) {
			return nil, s.wrong(NotStream, "it does not begin as one")
		}
		return nil, s.failed(err, "before its header")
	}
	switch v := binary.BigEndian.Uint32(start[len(magic):]); {
	case string(start[:len(magic)]) != magic:
		return nil, s.wrong(NotStream, "it does not begin as one")
	case v > version:
		return nil, s.wrong(TooNew, "it has version %d, this program reads %d", v, version)
	case !bytes.Equal(start[:], appendStart(nil)):
		return nil, s.wrong(Corrupt, "its first %d bytes are not those of any version", startSize)
	}
	s.digest.Write(start[:])
	s.offset = int64(startSize)
	_, body, err := s.frame()
	if err != nil {
		return nil, err
	}
	h, kind, err := decodeHeader(body)
	if err != nil {
		return nil, &Error{Kind: kind, Offset: int64(startSize), Problem: "its header", Err: err}
	}
	s.header = h
	return s, nil
}

// Header is what the state is of.
func (s *Reader) Header() *Header { return s.header }

// Trailer is what the writer added at the end, nil for nothing. It is there
// after io.EOF only.
func (s *Reader) Trailer() json.RawMessage {
	if s.err != io.EOF {
		return nil
	}
	return s.trailer
}

// Digest names the whole stream, in hexadecimal. It is there after io.EOF only.
func (s *Reader) Digest() string {
	if s.err != io.EOF {
		return ""
	}
	return hex.EncodeToString(s.sum)
}

// Read gives payload, and io.EOF when the stream's end was verified.
func (s *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(s.rest) == 0 && len(p) >= MaxFrame {
		s.into = p // a frame that fits is read there, and need not be copied
		defer func() { s.into = nil }()
	}
	if !s.fill() {
		return 0, s.err
	}
	if len(p) >= MaxFrame && &s.rest[0] == &p[0] {
		n := len(s.rest)
		s.rest = nil
		return n, nil
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// WriteTo writes the payload to w, frame by frame, until the stream's end was
// verified; io.Copy uses it.
func (s *Reader) WriteTo(w io.Writer) (int64, error) {
	var n int64
	for s.fill() {
		k, err := w.Write(s.rest)
		n += int64(k)
		s.rest = s.rest[k:]
		if err == nil && len(s.rest) > 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return n, err
		}
	}
	if s.err == io.EOF {
		return n, nil
	}
	return n, s.err
}

// fill makes sure that there is payload to hand out, but for an error.
func (s *Reader) fill() bool {
	for len(s.rest) == 0 && s.err == nil {
		var kind uint32
		var body []byte
		if kind, body, s.err = s.frame(); s.err != nil {
			break
		}
		switch kind {
		case payloadFrame:
			s.rest = body
		case trailerFrame:
			s.trailer = bytes.Clone(body)
			if !json.Valid(body) {
				s.err = s.wrong(Corrupt, "the trailer is not JSON")
			}
		case endFrame:
			s.err = s.nothingMore()
		}
	}
	return len(s.rest) > 0
}

// frame reads and verifies the next frame.
func (s *Reader) frame() (uint32, []byte, error) {
	if _, err := io.ReadFull(s.r, s.head[:]); err != nil {
		return 0, nil, s.failed(err, "in or before the head of a frame")
	}
	h, err := parseHead(s.head[:])
	switch {
	case err != nil:
		return 0, nil, s.wrong(Corrupt, "%v", err)
	case h.sequence != s.next:
		return 0, nil, s.wrong(Corrupt, "frame %d stands where frame %d belongs", h.sequence, s.next)
	case !follows(s.last, h.kind):
		return 0, nil, s.wrong(Corrupt, "a frame of the kind %s stands where none belongs", frameNames[h.kind])
	}
	var body []byte
	if h.kind == payloadFrame && s.into != nil {
		body = s.into[:h.length]
	} else {
		if cap(s.buf) < int(h.length) {
			s.buf = make([]byte, h.length)
		}
		body = s.buf[:h.length]
	}
	if _, err := io.ReadFull(s.r, body); err != nil {
		return 0, nil, s.failed(err, "in a frame of the kind "+frameNames[h.kind])
	}
	if xxhash.Sum64(body) != h.sum {
		return 0, nil, s.wrong(Corrupt, "a frame of the kind %s does not match its sum", frameNames[h.kind])
	}
	switch h.kind {
	case endFrame:
		if !bytes.Equal(body, endBody(s.digest, s.payload, s.frames)) {
			return 0, nil, s.wrong(Corrupt, "its digest is not the one of what was read")
		}
		s.sum = bytes.Clone(body[len(body)-sha256.Size:])
	case payloadFrame:
		s.digest.Write(s.head[:])
		s.payload += uint64(h.length)
		s.frames++
	default:
		s.digest.Write(s.head[:])
		s.digest.Write(body)
	}
	s.last = h.kind
	s.next++
	s.offset += headSize + int64(h.length)
	return h.kind, body, nil
}

// nothingMore is io.EOF if the underlying reader is at its end, as the stream
// is.
func (s *Reader) nothingMore() error {
	switch n, err := io.ReadFull(s.r, s.head[:1]); {
	case n > 0:
		return s.wrong(Corrupt, "something follows its end")
	case err == io.EOF:
		return io.EOF
	default:
		return s.failed(err, "after its end")
	}
}

func (s *Reader) wrong(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Offset: s.offset, Problem: fmt.Sprintf(format, args...)}
}

// failed is an error of the underlying reader. Its end is not the stream's.
func (s *Reader) failed(err error, where string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &Error{Kind: Cut, Offset: s.offset, Problem: "it ends " + where, Err: io.ErrUnexpectedEOF}
	}
	return fmt.Errorf("read the stream at byte %d: %w", s.offset, err)
}
