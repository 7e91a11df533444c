// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// Writer writes one stream. After an error it stays in it.
//
// Payload is gathered to a batch of full frames. One is summed and written while
// the next one is filled: until Close returns, or Write an error and no more is
// written, what the stream is written to is the Writer's.
type Writer struct {
	w       io.Writer
	buf     []byte      // room for a head, then payload not yet written
	spare   []byte      // as buf; nil while it is being written
	written chan []byte // gives it back
	rooms   [2]*room    // that both are in
	size    int         // of a full payload frame
	digest  hash.Hash
	next    uint64 // sequence of the next frame
	payload uint64 // bytes written to frames
	frames  uint64 // of payload
	sum     []byte // the digest that the end has
	err     error
}

// batch is how many frames are gathered. Handing some to another processor costs
// about the same as one, and a device is read fastest some MiB at a time: with an
// emulated processor both cost much. docs/benchmarks.md has what others give.
const batch = 16

// room is memory for a batch.
type room [headSize + batch*MaxFrame]byte

// rooms are used again: the first touch of memory costs too.
var rooms = sync.Pool{New: func() any { return new(room) }}

var errClosed = errors.New("the stream was ended already")

// NewWriter begins a stream on w.
func NewWriter(w io.Writer, h *Header) (*Writer, error) { return newWriter(w, h, fullFrame) }

func newWriter(w io.Writer, h *Header, size int) (*Writer, error) {
	header, err := h.encode()
	if err != nil {
		return nil, fmt.Errorf("begin a stream: %w", err)
	}
	s := &Writer{w: w, size: size, digest: sha256.New(), written: make(chan []byte, 1)}
	for i, b := range []*[]byte{&s.buf, &s.spare} {
		s.rooms[i] = rooms.Get().(*room)
		*b = s.rooms[i][: headSize : headSize+batch*size]
	}
	start := appendStart(nil)
	s.digest.Write(start)
	if _, err := w.Write(start); err != nil {
		return nil, fmt.Errorf("begin a stream: %w", err)
	}
	s.small(headerFrame, header)
	if s.err != nil {
		return nil, fmt.Errorf("begin a stream: %w", s.err)
	}
	return s, nil
}

// small writes a frame that is no payload: all of it goes into the digest.
func (s *Writer) small(kind uint32, body []byte) {
	whole := append(make([]byte, headSize, headSize+len(body)), body...)
	s.digest.Write(s.frame(kind, whole))
	s.digest.Write(body)
}

// frame writes a frame from memory that has room for its head in front, and
// returns the head.
func (s *Writer) frame(kind uint32, whole []byte) []byte {
	body := whole[headSize:]
	h := head{kind, uint32(len(body)), s.next, xxhash.Sum64(body)}
	s.next++
	h.put(whole[:headSize])
	if s.err == nil {
		_, s.err = s.w.Write(whole)
	}
	return whole[:headSize]
}

// wait waits for the batch that is being written. The Writer's fields are the
// caller's again then.
func (s *Writer) wait() {
	if s.spare == nil {
		s.spare = <-s.written
	}
}

// flush begins to write what the buffer holds, and goes on with the other one.
func (s *Writer) flush() {
	if len(s.buf) == headSize {
		return
	}
	s.wait()
	full := s.buf
	s.buf, s.spare = s.spare, nil
	s.payload += uint64(len(full) - headSize)
	s.frames += uint64((len(full) - headSize + s.size - 1) / s.size)
	go func() {
		s.write(full)
		s.written <- full[:headSize]
	}()
}

// write writes a batch as frames. The head of each but the first takes the place
// of the end of the payload before it, which was written by then: so payload is
// read in one piece and written without being moved.
func (s *Writer) write(full []byte) {
	for len(full) > headSize {
		whole := full[:min(len(full), headSize+s.size)]
		s.digest.Write(s.frame(payloadFrame, whole))
		full = full[len(whole)-headSize:]
	}
}

// failed is the error of a batch that was written by now.
func (s *Writer) failed() error {
	if s.spare == nil {
		select {
		case s.spare = <-s.written:
		default:
			return nil // it is still being written
		}
	}
	return s.err
}

// AvailableBuffer is room for payload: what is read to there and given to the
// next Write need not be copied, as with bufio.Writer. After Close it is another's.
func (s *Writer) AvailableBuffer() []byte { return s.buf[len(s.buf):] }

// Write adds payload.
func (s *Writer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if err := s.failed(); err != nil {
			return n - len(p), fmt.Errorf("write the stream: %w", err)
		}
		k := min(len(p), cap(s.buf)-len(s.buf))
		at := len(s.buf)
		s.buf = s.buf[:at+k]
		if &s.buf[at] != &p[0] {
			copy(s.buf[at:], p[:k])
		}
		p = p[k:]
		if len(s.buf) == cap(s.buf) {
			s.flush()
		}
	}
	return n, nil
}

// ReadFrom adds what r gives until its io.EOF; io.Copy uses it.
func (s *Writer) ReadFrom(r io.Reader) (int64, error) {
	var n int64
	for {
		if err := s.failed(); err != nil {
			return n, fmt.Errorf("write the stream: %w", err)
		}
		k, err := r.Read(s.buf[len(s.buf):cap(s.buf)])
		n += int64(k)
		s.buf = s.buf[:len(s.buf)+k]
		if len(s.buf) == cap(s.buf) {
			s.flush()
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// Close ends the stream, with a trailer unless it is empty. A stream that is
// not closed is cut: leave it so when its payload is not whole. It does not
// close what the stream is written to.
func (s *Writer) Close(trailer json.RawMessage) error {
	s.wait()
	switch {
	case errors.Is(s.err, errClosed):
		return s.err
	case len(trailer) > MaxFrame:
		return fmt.Errorf("end the stream: the trailer has %d bytes, more than %d", len(trailer), MaxFrame)
	case len(trailer) > 0 && !json.Valid(trailer):
		return errors.New("end the stream: the trailer is not JSON")
	}
	s.flush()
	s.wait()
	if len(trailer) > 0 {
		s.small(trailerFrame, trailer)
	}
	end := endBody(s.digest, s.payload, s.frames)
	s.small(endFrame, end)
	if s.err != nil {
		return fmt.Errorf("end the stream: %w", s.err)
	}
	s.sum, s.err = end[len(end)-sha256.Size:], errClosed
	s.buf, s.spare = []byte{}, []byte{} // not nil: nothing is being written
	for _, r := range s.rooms {
		rooms.Put(r)
	}
	return nil
}

// Digest names the whole stream, in hexadecimal; it is empty until Close
// returned. A Reader of the same stream has the same.
func (s *Writer) Digest() string { return hex.EncodeToString(s.sum) }

// endBody is the body of the end frame, after digest took all before it.
func endBody(digest hash.Hash, payload, frames uint64) []byte {
	b := binary.BigEndian.AppendUint64(nil, payload)
	b = binary.BigEndian.AppendUint64(b, frames)
	digest.Write(b)
	return digest.Sum(b)
}
