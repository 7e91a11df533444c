// SPDX-License-Identifier: Apache-2.0

package prove

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"kindred/compat/proofs"
	"kindred/inventory"
	"kindred/stream"
)

// Voucher is a key's word for a recording: what it is of, what was noted of its
// device, and every byte of its state. A proof that is made of a recording is
// this host's word, and the state goes into a driver as root, so a recording
// from elsewhere is replayed only when a trusted key vouches for it.
type Voucher struct {
	Key     proofs.PublicKey `json:"key"`
	Name    string           `json:"name"`           // the signer's own; the key alone counts
	Payload string           `json:"payload_sha256"` // of the state
	Text    []byte           `json:"signature"`
}

// vouched is what a voucher signs.
func vouched(h *stream.Header, n *Notes, payload string) ([]byte, error) {
	inv, err := inventory.Encode(h.Inventory)
	if err != nil {
		return nil, err
	}
	unsigned := *n
	unsigned.Voucher = nil
	notes, err := json.Marshal(&unsigned)
	if err != nil {
		return nil, err
	}
	head := fmt.Appendf(nil, "kindred.recording/v1\n%s\n%q\n%s\n", h.Made.UTC().Format(time.RFC3339Nano), h.By, payload)
	return bytes.Join([][]byte{head, inv, notes}, nil), nil
}

// trusted is an error unless one of the keys vouches for a recording of that
// payload.
func trusted(h *stream.Header, n *Notes, payload string, keys []proofs.NamedKey) error {
	v := n.Voucher
	if v == nil || v.Payload != payload {
		return ErrNotTrusted
	}
	text, err := vouched(h, n, payload)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.Key == v.Key && k.Verify(text, v.Text) {
			return nil
		}
	}
	return ErrNotTrusted
}

// summed is a payload that ends well only if it is the one that was vouched for:
// a file can be another when it is read again.
type summed struct {
	from io.Reader
	sum  hash.Hash
	want string
}

var errOther = errors.New("the recording is not the one that was verified: its file was changed meanwhile")

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	s.sum.Write(p[:n])
	if err == io.EOF && hex.EncodeToString(s.sum.Sum(nil)) != s.want {
		return n, errOther
	}
	return n, err
}

// payloadOf sums a payload.
func payloadOf(r io.Reader) (size int64, sum string, err error) {
	h := sha256.New()
	size, err = io.Copy(h, r)
	return size, hex.EncodeToString(h.Sum(nil)), err
}
