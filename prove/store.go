// SPDX-License-Identifier: Apache-2.0

package prove

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"kindred/compat"
	"kindred/compat/proofs"
)

// Store keeps proofs in a directory, one file for what was made or imported at
// once. Only files count that a trusted key signed: this host's own, which the
// store makes when it is first needed, and those in the directory of trusted
// keys.
type Store struct {
	Dir  string // of proofs
	Keys string // of the host's own key, proof.key and proof.pub
	Site string // of the site's trusted keys, *.pub
}

// DefaultStore is the store of this host.
func DefaultStore() *Store {
	return &Store{Dir: "/var/lib/kindred/proofs", Keys: "/var/lib/kindred", Site: "/etc/kindred/proof-keys.d"}
}

// Entry is one file of the store.
type Entry struct {
	Name   string // of the file
	File   *proofs.File
	Signer proofs.NamedKey // the trusted key that signed it
	Err    error           // why it does not count; nil: it counts
}

// ErrNotTrusted is why a file does not count that no trusted key signed.
var ErrNotTrusted = errors.New("no key signed it that is trusted here")

// Entries reads every file, by name. A store that is not there is empty.
func (s *Store) Entries() ([]Entry, error) {
	files, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("proofs: %w", err)
	}
	keys, err := s.Trusted()
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".json") && !strings.HasPrefix(f.Name(), ".") {
			entries = append(entries, ReadFile(filepath.Join(s.Dir, f.Name()), keys))
		}
	}
	return entries, nil
}

// ReadFile reads a file of proofs and looks for a trusted signature.
func ReadFile(name string, keys []proofs.NamedKey) Entry {
	e := Entry{Name: name}
	data, err := readBounded(name)
	if err == nil {
		e.File, err = proofs.Decode(data)
	}
	if err != nil {
		e.Err = fmt.Errorf("proofs %s: %w", name, err)
		return e
	}
	var ok bool
	if e.Signer, ok = e.File.Trusted(keys); !ok {
		e.Err = fmt.Errorf("proofs %s: %w", name, ErrNotTrusted)
	} else if err := notOfTheFuture(e.File); err != nil {
		e.Err = fmt.Errorf("proofs %s: %w", name, err)
	}
	return e
}

// Clocks of hosts may differ, but not by so much.
const clocks = time.Hour

// ErrFuture is why a file does not count that is from tomorrow: the newest proof
// wins, and it would win for ever.
var ErrFuture = errors.New("a proof in it is from the future: was a clock wrong?")

func notOfTheFuture(f *proofs.File) error {
	if f.Latest().After(time.Now().Add(clocks)) {
		return ErrFuture
	}
	return nil
}

// readBounded reads no more than what Decode needs to say that it is too much.
func readBounded(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, proofs.MaxSize+1))
}

// Counting are the proofs of the entries that count.
func Counting(entries []Entry) []compat.Proof {
	var list []compat.Proof
	for _, e := range entries {
		if e.Err == nil {
			list = append(list, e.File.Proofs...)
		}
	}
	return list
}

// Trusted are the keys whose signature counts: the host's own and the site's.
func (s *Store) Trusted() ([]proofs.NamedKey, error) {
	files, err := filepath.Glob(filepath.Join(s.Site, "*.pub"))
	if err != nil {
		return nil, fmt.Errorf("trusted keys: %w", err)
	}
	slices.Sort(files)
	var keys []proofs.NamedKey
	for _, name := range append([]string{filepath.Join(s.Keys, "proof.pub")}, files...) {
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("trusted keys: %w", err)
		}
		list, err := proofs.ParseKeys(data)
		if err != nil {
			return nil, fmt.Errorf("trusted keys: %s: %w", name, err)
		}
		keys = append(keys, list...)
	}
	return keys, nil
}

// Key is the host's own key, made now if there is none.
func (s *Store) Key() (*proofs.PrivateKey, error) {
	name := filepath.Join(s.Keys, "proof.key")
	data, err := os.ReadFile(name)
	switch {
	case err == nil:
		key, err := proofs.ParsePrivateKey(data)
		if err != nil {
			return nil, fmt.Errorf("the host's key for proofs: %s: %w", name, err)
		}
		if _, err := os.Stat(publicFile(name)); errors.Is(err, fs.ErrNotExist) {
			return key, writePublic(name, key) // a crash came between
		}
		return key, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the host's key for proofs: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("the host's key for proofs: %w", err)
	}
	key, err := WriteKey(name, host)
	if !errors.Is(err, fs.ErrExist) {
		return key, err
	}
	if data, err = os.ReadFile(name); err != nil { // another process was first
		return nil, fmt.Errorf("the host's key for proofs: %w", err)
	}
	return proofs.ParsePrivateKey(data)
}

// WriteKey makes a key and writes it to a file that nobody else can read, and
// its public part beside it, with the ending .pub. It replaces no key.
func WriteKey(name, signer string) (*proofs.PrivateKey, error) {
	key, err := proofs.NewPrivateKey(signer, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	next, err := os.CreateTemp(filepath.Dir(name), ".key-") // nobody else can read it
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	defer os.Remove(next.Name())
	_, err = next.Write(key.Encode())
	if err := errors.Join(err, next.Sync(), next.Close()); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	if err := os.Link(next.Name(), name); err != nil { // unlike a rename, it replaces nothing
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, writePublic(name, key)
}

// publicFile is where the public part of a key is, beside it.
func publicFile(name string) string { return strings.TrimSuffix(name, ".key") + ".pub" }

func writePublic(name string, key *proofs.PrivateKey) error {
	if err := renameio.WriteFile(publicFile(name), []byte(key.Public().String()+"\n"), 0o644); err != nil {
		return fmt.Errorf("write the public part of %s: %w", name, err)
	}
	return nil
}

// Add signs a proof with the host's key and keeps it. It returns its file.
func (s *Store) Add(p *compat.Proof) (string, error) {
	key, err := s.Key()
	if err != nil {
		return "", err
	}
	f := &proofs.File{Proofs: []compat.Proof{*p}}
	if err := f.Sign(key); err != nil {
		return "", fmt.Errorf("sign a proof: %w", err)
	}
	return s.write(f, &f.Proofs[0])
}

// Import keeps a file that a trusted key signed. It returns its file.
func (s *Store) Import(f *proofs.File) (string, error) {
	keys, err := s.Trusted()
	if err != nil {
		return "", err
	}
	if _, ok := f.Trusted(keys); !ok {
		return "", ErrNotTrusted
	}
	if len(f.Proofs) == 0 {
		return "", errors.New("there is no proof in it")
	}
	if err := notOfTheFuture(f); err != nil {
		return "", err
	}
	return s.write(f, &f.Proofs[0])
}

// write names a file by what its first proof is about, its time and its text:
// the same file is kept once.
func (s *Store) write(f *proofs.File, first *compat.Proof) (string, error) {
	data, err := f.Encode()
	if err != nil {
		return "", fmt.Errorf("keep proofs: %w", err)
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return "", fmt.Errorf("keep proofs: %w", err)
	}
	sum := sha256.Sum256(data)
	name := filepath.Join(s.Dir, fmt.Sprintf("%s-%.12s-%x.json", first.Time.UTC().Format("20060102T150405"), first.Key(), sum[:4]))
	if err := renameio.WriteFile(name, data, 0o644); err != nil {
		return "", fmt.Errorf("keep proofs: %w", err)
	}
	return name, nil
}
