// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// TokenLife is how long a join token is good unless another time is asked for,
// and MaxTokenLife the longest that may be.
const (
	TokenLife    = time.Hour
	MaxTokenLife = 24 * time.Hour
)

// Token is what a host joins with. Its text is a secret.
type Token struct {
	Host        string    `json:"host"`
	Secret      []byte    `json:"secret"`
	Authorities []string  `json:"authorities"` // fingerprints: one of them signed the server's certificate
	Expires     time.Time `json:"expires"`     // said for people; the server has its own note
}

const tokenPrefix = "kindred-join-1."

// String is the token's text.
func (t *Token) String() string {
	data, err := json.Marshal(t)
	if err != nil {
		panic(err) // plain data
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(data)
}

// ParseToken reads a token's text, as a file may hold it.
func ParseToken(text string) (*Token, error) {
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	if !ok {
		return nil, errors.New("this is not a join token: kindredd token create --host NAME makes one")
	}
	data, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return nil, errors.New("the join token was damaged on its way: copy it again as a whole")
	}
	t := new(Token)
	if err := json.Unmarshal(data, t); err != nil || len(t.Secret) != 32 || len(t.Authorities) == 0 || CheckName(t.Host) != nil {
		return nil, errors.New("the join token was damaged on its way: copy it again as a whole")
	}
	return t, nil
}

// ID names the token's note in the store: a digest, from which the token does
// not follow.
func (t *Token) ID() string {
	sum := sha256.Sum256(append([]byte("kindred join token"), t.Secret...))
	return hex.EncodeToString(sum[:])
}

// TokenNote is what the server keeps of a token.
type TokenNote struct {
	Host    string    `json:"host"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	By      string    `json:"by,omitempty"`
	// Key is the digest of the public key it was used with, empty before. The
	// same key may come again, as its answer may have been lost on the way.
	Key  string     `json:"key,omitempty"`
	Used *time.Time `json:"used,omitempty"`
}

// Why a token is refused.
var (
	ErrTokenUnknown = errors.New("the join token is not known here: it may be of another cluster")
	ErrTokenExpired = errors.New("the join token has expired: create another")
	ErrTokenUsed    = errors.New("the join token was used already: create another")
)

// NewToken makes a token and the note of it.
func (a *Authority) NewToken(host, by string, life time.Duration, now time.Time) (*Token, *TokenNote, error) {
	if err := CheckName(host); err != nil {
		return nil, nil, fmt.Errorf("make a join token: %w", err)
	}
	if life <= 0 || life > MaxTokenLife {
		return nil, nil, fmt.Errorf("make a join token: it lives up to %v, and %v was asked for", MaxTokenLife, life)
	}
	t := &Token{Host: host, Secret: make([]byte, 32), Authorities: a.Fingerprints(now), Expires: now.Add(life).UTC().Truncate(time.Second)}
	_, _ = rand.Read(t.Secret) // never fails
	return t, &TokenNote{Host: host, Created: now.UTC(), Expires: t.Expires, By: by}, nil
}

// use notes that a key uses the token, or says why it may not. It reports
// whether the note changed.
func (n *TokenNote) use(t *Token, key string, now time.Time) (changed bool, err error) {
	switch {
	case n.Host != t.Host:
		return false, fmt.Errorf("the join token is for the host %s, and not for %s", n.Host, t.Host)
	case !now.Before(n.Expires):
		return false, ErrTokenExpired
	case n.Key == key:
		return false, nil
	case n.Key != "":
		return false, ErrTokenUsed
	}
	n.Key, n.Used = key, new(now.UTC())
	return true, nil
}

// pins reports whether the token names an authority.
func (t *Token) pins(fingerprint string) bool { return slices.Contains(t.Authorities, fingerprint) }
