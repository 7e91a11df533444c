// SPDX-License-Identifier: Apache-2.0

// Package wire is the language spoken between a lab guest and the program that
// booted it, over one virtio-serial port.
//
// A message is a frame: the length of a JSON header (4 bytes, big endian), the
// length of a body (4 bytes, big endian), the header, the body. A header is a
// [Request] or a [Response]; the body carries file contents and process output,
// which JSON would only inflate. Requests carry an id, are answered in any
// order, and can be cancelled by a request with Op [OpCancel] and the same id.
//
// Both lengths are bounded and memory is taken as bytes arrive, not as lengths
// promise: a guest may be running a kernel that is being broken on purpose, and
// garbage on its side must stay an error on ours.
package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// Bounds of one frame. Larger files are moved in parts of [PartSize].
const (
	MaxHeader = 1 << 20
	MaxBody   = 64 << 20
	PartSize  = 1 << 20
)

// PortName is the name of the virtio-serial port that carries the frames.
const PortName = "kindred.lab"

// Operations of a [Request].
const (
	OpRun      = "run"      // start Argv with Env, the body as stdin; answer when it ends
	OpPut      = "put"      // write the body at Offset of Path; Last gives it Mode and its name
	OpGet      = "get"      // the contents of Path
	OpCapture  = "capture"  // a tar of what Globs match
	OpKlog     = "klog"     // the kernel's log buffer
	OpPowerOff = "poweroff" // no answer: the machine goes away
	OpCancel   = "cancel"   // give up the request with this id; no answer of its own
)

// Request asks a guest for one thing.
type Request struct {
	ID     uint64   `json:"id"`
	Op     string   `json:"op"`
	Argv   []string `json:"argv,omitempty"`
	Env    []string `json:"env,omitempty"`
	Path   string   `json:"path,omitempty"`
	Mode   uint32   `json:"mode,omitempty"`
	Offset int64    `json:"offset,omitempty"`
	Last   bool     `json:"last,omitempty"`
	Globs  []string `json:"globs,omitempty"`
}

// Response answers the request with the same id. Id 0 is the greeting a guest
// sends once, when it is ready.
type Response struct {
	ID       uint64 `json:"id"`
	Error    string `json:"error,omitempty"`
	ExitCode int    `json:"exitCode,omitempty"`
	// Stdout is how much of the body is standard output; the rest is standard error.
	Stdout int `json:"stdout,omitempty"`
	// Release is the running kernel's, in the greeting.
	Release string `json:"release,omitempty"`
}

// Write sends one frame. It is not safe for concurrent use of one writer.
func Write(w io.Writer, header any, body []byte) error {
	h, err := json.Marshal(header)
	if err != nil {
		return fmt.Errorf("wire: encoding the header: %w", err)
	}
	if len(h) > MaxHeader {
		return fmt.Errorf("wire: header of %d bytes, at most %d go in one frame", len(h), MaxHeader)
	}
	if len(body) > MaxBody {
		return fmt.Errorf("wire: body of %d bytes, at most %d go in one frame", len(body), MaxBody)
	}
	head := make([]byte, 8, 8+len(h))
	binary.BigEndian.PutUint32(head[0:], uint32(len(h)))
	binary.BigEndian.PutUint32(head[4:], uint32(len(body)))
	if _, err := w.Write(append(head, h...)); err != nil {
		return fmt.Errorf("wire: writing a header: %w", err)
	}
	if len(body) == 0 {
		return nil
	}
	if _, err := w.Write(body); err != nil {
		return fmt.Errorf("wire: writing a body: %w", err)
	}
	return nil
}

// Read receives one frame into header and returns its body. A stream that ends
// between frames gives io.EOF itself, one that ends inside a frame
// io.ErrUnexpectedEOF, wrapped.
func Read(r io.Reader, header any) ([]byte, error) {
	var lengths [8]byte
	if _, err := io.ReadFull(r, lengths[:]); err != nil {
		if err == io.EOF {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("wire: reading a frame's lengths: %w", err)
	}
	hlen := binary.BigEndian.Uint32(lengths[0:])
	blen := binary.BigEndian.Uint32(lengths[4:])
	if hlen > MaxHeader || blen > MaxBody {
		return nil, fmt.Errorf("wire: a frame of %d+%d bytes, at most %d+%d are allowed: not our protocol", hlen, blen, MaxHeader, MaxBody)
	}
	h, err := readN(r, int64(hlen))
	if err != nil {
		return nil, fmt.Errorf("wire: reading a header: %w", err)
	}
	if err := json.Unmarshal(h, header); err != nil {
		return nil, fmt.Errorf("wire: decoding a header: %w", err)
	}
	body, err := readN(r, int64(blen))
	if err != nil {
		return nil, fmt.Errorf("wire: reading a body: %w", err)
	}
	return body, nil
}

func readN(r io.Reader, n int64) ([]byte, error) {
	var buf bytes.Buffer
	switch got, err := io.CopyN(&buf, r, n); {
	case err == io.EOF && got < n:
		return nil, io.ErrUnexpectedEOF
	case err != nil:
		return nil, err
	}
	return buf.Bytes(), nil
}
