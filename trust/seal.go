// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// SealKey encrypts what must not be read from the store alone: AES-256-GCM
// with random nonces, of which an authority's whole life needs a few.
type SealKey struct {
	aead cipher.AEAD
	id   string
}

// keyPrefix begins a key file's one line.
const keyPrefix = "kindred-seal-key-1 "

// NewSealKey makes the text of a key file.
func NewSealKey() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return keyPrefix + base64.StdEncoding.EncodeToString(b[:]) + "\n"
}

// ParseSealKey reads the text of a key file.
func ParseSealKey(text string) (*SealKey, error) {
	encoded, ok := strings.CutPrefix(strings.TrimSuffix(text, "\n"), keyPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) != 32 {
		return nil, errors.New("this is not a seal key: one line that begins with kindred-seal-key-1")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	sum := sha256.Sum256(append([]byte("kindred seal key id"), key...))
	return &SealKey{aead, hex.EncodeToString(sum[:8])}, nil
}

// OpenSealKey reads the key file. When there is none and create is true it
// makes one; made says so, for the operator who has to keep a copy.
func OpenSealKey(file string, create bool) (key *SealKey, made bool, err error) {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && create:
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return nil, false, fmt.Errorf("make the seal key: %w", err)
		}
		if err := renameio.WriteFile(file, []byte(NewSealKey()), 0o600); err != nil {
			return nil, false, fmt.Errorf("make the seal key: %w", err)
		}
		made = true
	case errors.Is(err, fs.ErrNotExist):
		return nil, false, fmt.Errorf("seal key: %w: the authority is sealed with it; put its copy back in place", err)
	case err != nil:
		return nil, false, fmt.Errorf("seal key: %w", err)
	case info.Mode().Perm()&0o077 != 0:
		return nil, false, fmt.Errorf("seal key %s: others than its owner may read or write it (%v); chmod 600 it", file, info.Mode().Perm())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, false, fmt.Errorf("seal key: %w", err)
	}
	if key, err = ParseSealKey(string(text)); err != nil {
		return nil, false, fmt.Errorf("%s: %w", file, err)
	}
	return key, made, nil
}

// sealedBox is what is stored.
type sealedBox struct {
	Version int    `json:"version"`
	Key     string `json:"key"` // which key, without saying the key
	Cluster string `json:"cluster"`
	Data    []byte `json:"data"` // nonce and ciphertext
}

func bound(cluster string) []byte { return []byte("kindred authority 1 " + cluster) }

func (k *SealKey) seal(cluster string, plain []byte) ([]byte, error) {
	return json.Marshal(sealedBox{1, k.id, cluster, k.aead.Seal(nil, nil, plain, bound(cluster))})
}

// ErrOtherKey is returned for what was sealed with another key file.
var ErrOtherKey = errors.New("it is sealed with another key file")

func (k *SealKey) unseal(sealed []byte) (cluster string, plain []byte, err error) {
	var box sealedBox
	if err := json.Unmarshal(sealed, &box); err != nil || box.Version != 1 {
		return "", nil, errors.New("unseal the authority: it is damaged, or of a newer version")
	}
	if box.Key != k.id {
		return "", nil, fmt.Errorf("unseal the authority: %w (%s, and this is %s)", ErrOtherKey, box.Key, k.id)
	}
	plain, err = k.aead.Open(nil, nil, box.Data, bound(box.Cluster))
	if err != nil {
		return "", nil, fmt.Errorf("unseal the authority: it was changed: %w", err)
	}
	return box.Cluster, plain, nil
}
