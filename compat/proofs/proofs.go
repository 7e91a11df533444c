// SPDX-License-Identifier: Apache-2.0

// Package proofs reads and writes files of proofs, and says which of them
// count: a proof decides verdicts, so it counts only when a key signed it that
// the site trusts.
//
// A file is one JSON document: a schema name, the proofs, and signatures over
// the proofs. A signature is Ed25519 over the compact JSON encoding of the
// list, so white space is free and nothing else is. The document is read
// strictly: there is no key in it that a signature does not cover.
package proofs

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"kindred/compat"
)

// Schema names the shape of a file.
const Schema = "kindred.proofs/v1"

// MaxSize is the longest file that is read, in bytes.
const MaxSize = 16 << 20

// File is a file of proofs.
type File struct {
	Schema     string         `json:"schema"`
	Proofs     []compat.Proof `json:"proofs"`
	Signatures []Signature    `json:"signatures"`
}

// Signature is one key's word for all proofs of a file.
type Signature struct {
	Key  PublicKey `json:"key"`
	Name string    `json:"name"` // the signer's own; the key alone counts
	Text []byte    `json:"signature"`
}

// Decode reads a file. Who signed it is for Trusted to say.
func Decode(data []byte) (*File, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%d bytes: a file of proofs has at most %d", len(data), MaxSize)
	}
	var f File
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("not a file of proofs: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("not a file of proofs: more text after its end")
	}
	if f.Schema != Schema {
		return nil, fmt.Errorf("not a file of proofs: its schema is %q, and this program reads %s", f.Schema, Schema)
	}
	for i := range f.Proofs {
		if err := check(&f.Proofs[i]); err != nil {
			return nil, fmt.Errorf("proof %d: %w", i+1, err)
		}
	}
	f.share()
	return &f, nil
}

// share keeps sides that are alike once: a file is about few machines, and says of
// each again what they are made of.
func (f *File) share() {
	kept := make(map[string]*compat.ProofSide)
	share := func(side **compat.ProofSide) {
		if *side == nil {
			return
		}
		text, err := json.Marshal(*side)
		if err != nil {
			return // it stays for itself
		}
		if kept[string(text)] == nil {
			kept[string(text)] = *side
		}
		*side = kept[string(text)]
	}
	for i := range f.Proofs {
		share(&f.Proofs[i].Source)
		share(&f.Proofs[i].Target)
	}
}

// check refuses proofs that say nothing.
func check(p *compat.Proof) error {
	switch {
	case p.SourceType.Name == "" || p.TargetType.Name == "" || p.SourceType.Namespace == "" || p.TargetType.Namespace == "":
		return errors.New("a type has no name")
	case p.SourceBuild == "" || p.TargetBuild == "":
		return errors.New("a build is not named")
	case p.Grade.String() == "":
		return errors.New("no grade")
	case !slices.Contains([]compat.Result{compat.Accepted, compat.Rejected, compat.Inconclusive}, p.Result):
		return fmt.Errorf("unknown result %q", p.Result)
	case p.Time.IsZero():
		return errors.New("no time")
	case p.Tries < 0:
		return fmt.Errorf("%d tries", p.Tries)
	}
	return nil
}

// Encode writes a file for people and programs. It is an error that Decode would
// not read it.
func (f *File) Encode() ([]byte, error) {
	f.Schema = Schema
	data, err := json.MarshalIndent(f, "", "  ")
	if err == nil && len(data) >= MaxSize {
		err = fmt.Errorf("%d bytes: a file of proofs has at most %d; put fewer into it", len(data), MaxSize)
	}
	return append(data, '\n'), err
}

// signed is what signatures are over.
func (f *File) signed() ([]byte, error) {
	list, err := json.Marshal(f.Proofs)
	return append([]byte(Schema+"\n"), list...), err
}

// Sign adds the key's signature, in place of an earlier one of the same key.
func (f *File) Sign(key *PrivateKey) error {
	text, err := f.signed()
	if err != nil {
		return err
	}
	public := key.Public()
	f.Signatures = slices.DeleteFunc(f.Signatures, func(s Signature) bool { return s.Key == public.Key })
	f.Signatures = append(f.Signatures, Signature{public.Key, public.Name, ed25519.Sign(key.private(), text)})
	return nil
}

// SignText is the key's signature of a text that is no file of proofs: the text
// begins with what it is.
func (k *PrivateKey) SignText(text []byte) []byte { return ed25519.Sign(k.private(), text) }

// Verify reports whether it is the key's signature of the text.
func (k NamedKey) Verify(text, signature []byte) bool {
	return ed25519.Verify(k.Key[:], text, signature)
}

// Latest is the time of the newest proof in the file.
func (f *File) Latest() time.Time {
	var latest time.Time
	for i := range f.Proofs {
		if t := f.Proofs[i].Time; t.After(latest) {
			latest = t
		}
	}
	return latest
}

// Trusted returns the trusted key that signed the file, and whether there is
// one. A signature that does not fit is nobody's.
func (f *File) Trusted(keys []NamedKey) (NamedKey, bool) {
	text, err := f.signed()
	if err != nil {
		return NamedKey{}, false
	}
	for _, s := range f.Signatures {
		i := slices.IndexFunc(keys, func(k NamedKey) bool { return k.Key == s.Key })
		if i >= 0 && ed25519.Verify(s.Key[:], text, s.Text) {
			return keys[i], true
		}
	}
	return NamedKey{}, false
}

// PublicKey is an Ed25519 public key.
type PublicKey [ed25519.PublicKeySize]byte

// MarshalText is the key in base64.
func (k PublicKey) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, k[:]), nil
}

// UnmarshalText reads what MarshalText writes.
func (k *PublicKey) UnmarshalText(text []byte) error {
	data, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil || len(data) != len(k) {
		return fmt.Errorf("%q is not an Ed25519 public key in base64", text)
	}
	copy(k[:], data)
	return nil
}

// NamedKey is a public key with the name its file gives it.
type NamedKey struct {
	Key  PublicKey
	Name string
}

// String is the line of a file of trusted keys: the kind, the key, the name.
func (k NamedKey) String() string {
	return "ed25519 " + base64.StdEncoding.EncodeToString(k.Key[:]) + " " + k.Name
}

// ParseKeys reads a file of trusted keys: one on a line, # begins a comment.
func ParseKeys(data []byte) ([]NamedKey, error) {
	var keys []NamedKey
	for i, line := range strings.Split(string(data), "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		var k NamedKey
		if len(fields) != 3 || fields[0] != "ed25519" {
			return nil, fmt.Errorf("line %d: a key is written as: ed25519 BASE64 NAME", i+1)
		}
		if err := k.Key.UnmarshalText([]byte(fields[1])); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		k.Name = fields[2]
		keys = append(keys, k)
	}
	return keys, nil
}

// PrivateKey signs proofs.
type PrivateKey struct {
	seed [ed25519.SeedSize]byte
	name string
}

// privateKind begins the line of a private key's file.
const privateKind = "ed25519-private"

// NewPrivateKey takes a key's seed from random, which must be unpredictable.
func NewPrivateKey(name string, random io.Reader) (*PrivateKey, error) {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '#' }) {
		return nil, fmt.Errorf("%q cannot name a key: use one word", name)
	}
	k := &PrivateKey{name: name}
	_, err := io.ReadFull(random, k.seed[:])
	return k, err
}

// ParsePrivateKey reads what Encode writes.
func ParsePrivateKey(data []byte) (*PrivateKey, error) {
	fields := strings.Fields(string(data))
	if len(fields) != 3 || fields[0] != privateKind {
		return nil, errors.New("not a private key: kindred proof key create makes one")
	}
	seed, err := base64.StdEncoding.DecodeString(fields[1])
	k := &PrivateKey{name: fields[2]}
	if err != nil || len(seed) != len(k.seed) {
		return nil, errors.New("not a private key: its middle is not 32 bytes in base64")
	}
	copy(k.seed[:], seed)
	return k, nil
}

// Encode is the key as its file has it.
func (k *PrivateKey) Encode() []byte {
	return []byte(privateKind + " " + base64.StdEncoding.EncodeToString(k.seed[:]) + " " + k.name + "\n")
}

// Public is the key that others need.
func (k *PrivateKey) Public() NamedKey {
	return NamedKey{PublicKey(k.private().Public().(ed25519.PublicKey)), k.name}
}

func (k *PrivateKey) private() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(k.seed[:]) }
