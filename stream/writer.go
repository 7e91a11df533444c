// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/cespare/xxhash/v2"
)

// Writer writes one stream. After an error it stays in it.
type Writer struct {
	w       io.Writer
	buf     []byte // room for a head, then payload not yet written
	size    int    // of a full payload frame
	digest  hash.Hash
	next    uint64 // sequence of the next frame
	payload uint64 // bytes written to frames
	frames  uint64 // of payload
	err     error
}

var errClosed = errors.New("the stream was ended already")

// NewWriter begins a stream on w.
func NewWriter(w io.Writer, h *Header) (*Writer, error) { return newWriter(w, h, fullFrame) }

func newWriter(w io.Writer, h *Header, size int) (*Writer, error) {
	header, err := h.encode()
	if err != nil {
		return nil, fmt.Errorf("begin a stream: %w", err)
	}
	s := &Writer{w: w, size: size, digest: sha256.New(), buf: make([]byte, headSize, headSize+size)}
	start := appendStart(nil)
	s.digest.Write(start)
	if _, err := w.Write(start); err != nil {
		return nil, fmt.Errorf("begin a stream: %w", err)
	}
	s.digest.Write(s.frame(headerFrame, header))
	s.digest.Write(header)
	if s.err != nil {
		return nil, fmt.Errorf("begin a stream: %w", s.err)
	}
	return s, nil
}

// frame writes a frame and returns its head. It lives in front of the buffer,
// so that a body in the buffer goes out in one write with it.
func (s *Writer) frame(kind uint32, body []byte) []byte {
	h := head{kind, uint32(len(body)), s.next, xxhash.Sum64(body)}
	s.next++
	front := s.buf[:headSize]
	h.put(front)
	whole := front
	inPlace := len(body) > 0 && len(s.buf) > headSize && &body[0] == &s.buf[headSize]
	if inPlace {
		whole = s.buf[:headSize+len(body)]
	}
	if s.err == nil {
		_, s.err = s.w.Write(whole)
	}
	if s.err == nil && !inPlace {
		_, s.err = s.w.Write(body)
	}
	return front
}

// emit writes a payload frame.
func (s *Writer) emit(body []byte) {
	s.digest.Write(s.frame(payloadFrame, body))
	s.payload += uint64(len(body))
	s.frames++
}

// flush writes what the buffer holds.
func (s *Writer) flush() {
	if len(s.buf) > headSize {
		s.emit(s.buf[headSize:])
		s.buf = s.buf[:headSize]
	}
}

// Write adds payload.
func (s *Writer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && s.err == nil {
		if len(s.buf) == headSize && len(p) >= s.size {
			s.emit(p[:s.size]) // without copying it
			p = p[s.size:]
			continue
		}
		k := min(len(p), headSize+s.size-len(s.buf))
		s.buf = append(s.buf, p[:k]...)
		p = p[k:]
		if len(s.buf) == headSize+s.size {
			s.flush()
		}
	}
	if s.err != nil {
		return n - len(p), fmt.Errorf("write the stream: %w", s.err)
	}
	return n, nil
}

// ReadFrom adds what r gives until its io.EOF; io.Copy uses it.
func (s *Writer) ReadFrom(r io.Reader) (int64, error) {
	var n int64
	for s.err == nil {
		k, err := r.Read(s.buf[len(s.buf) : headSize+s.size])
		n += int64(k)
		s.buf = s.buf[:len(s.buf)+k]
		if len(s.buf) == headSize+s.size {
			s.flush()
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, fmt.Errorf("write the stream: %w", s.err)
}

// Close ends the stream, with a trailer unless it is empty. A stream that is
// not closed is cut: leave it so when its payload is not whole. It does not
// close what the stream is written to.
func (s *Writer) Close(trailer json.RawMessage) error {
	switch {
	case errors.Is(s.err, errClosed):
		return s.err
	case len(trailer) > MaxFrame:
		return fmt.Errorf("end the stream: the trailer has %d bytes, more than %d", len(trailer), MaxFrame)
	case len(trailer) > 0 && !json.Valid(trailer):
		return errors.New("end the stream: the trailer is not JSON")
	}
	s.flush()
	if len(trailer) > 0 {
		s.digest.Write(s.frame(trailerFrame, trailer))
		s.digest.Write(trailer)
	}
	s.frame(endFrame, endBody(s.digest, s.payload, s.frames))
	if s.err != nil {
		return fmt.Errorf("end the stream: %w", s.err)
	}
	s.err = errClosed
	return nil
}

// endBody is the body of the end frame, after digest took all before it.
func endBody(digest hash.Hash, payload, frames uint64) []byte {
	b := binary.BigEndian.AppendUint64(nil, payload)
	b = binary.BigEndian.AppendUint64(b, frames)
	digest.Write(b)
	return digest.Sum(b)
}
