// SPDX-License-Identifier: Apache-2.0

package prove

import (
	"encoding/json"
	"errors"
	"io"

	"kindred/stream"
)

// Between two hosts a recording goes as a stream from one process to another,
// which know each other: nobody has to vouch for it, and it is never a file with
// a name.

// Send writes the recording as a stream. The digest is of the whole; who receives
// it has the same.
func (r *Recording) Send(w io.Writer) (digest string, err error) {
	from, err := r.open()
	if err != nil {
		return "", err
	}
	notes, err := json.Marshal(r.notes)
	if err != nil {
		return "", err
	}
	to, err := stream.NewWriter(w, r.header)
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(to, from); err != nil {
		return "", err
	}
	if err := to.Close(notes); err != nil {
		return "", err
	}
	return to.Digest(), nil
}

// Receive makes a recording of a stream that Send wrote. It is one only if all of
// the stream came.
func (p *Prover) Receive(from io.Reader) (_ *Recording, digest string, err error) {
	file, err := p.scratch()
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	s, err := stream.NewReader(io.TeeReader(from, file))
	if err != nil {
		return nil, "", err
	}
	r := &Recording{header: s.Header(), file: file, close: file.Close}
	if r.size, err = io.Copy(io.Discard, s); err != nil {
		return nil, "", err
	}
	if r.notes, err = ParseNotes(s.Trailer()); err != nil {
		return nil, "", err
	}
	r.length, err = file.Seek(0, io.SeekEnd)
	return r, s.Digest(), err
}
