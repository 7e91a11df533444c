// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Records is where a desk keeps what it knows, below keys of its own: ca,
// token/ID and cert/NAME-OR-SERIAL. The server's store implements it.
type Records interface {
	// Get returns a record and its revision, or an error that is fs.ErrNotExist.
	Get(ctx context.Context, key string) (data []byte, revision int64, err error)
	// Put writes a record if its revision is still that one, 0 for one that is
	// not there. Otherwise the error is ErrChanged.
	Put(ctx context.Context, key string, data []byte, revision int64) error
}

// ErrChanged is returned by Records.Put when somebody else was faster.
var ErrChanged = errors.New("it was changed meanwhile")

const authorityKey = "ca"

// Desk issues certificates and tokens, and revokes them. It keeps nothing: any
// number of servers may have one over the same records.
type Desk struct {
	Records Records
	Key     *SealKey
}

// Begin makes the authority when there is none, and returns the one there is.
func (d *Desk) Begin(ctx context.Context, cluster string, now time.Time) (*Authority, error) {
	a, err := d.Authority(ctx)
	if !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	if a, err = NewAuthority(cluster, now); err != nil {
		return nil, err
	}
	if err = d.keep(ctx, a, 0); errors.Is(err, ErrChanged) {
		return d.Authority(ctx)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Authority reads the authority as it is now.
func (d *Desk) Authority(ctx context.Context) (*Authority, error) {
	a, _, err := d.authority(ctx)
	return a, err
}

func (d *Desk) authority(ctx context.Context) (*Authority, int64, error) {
	sealed, revision, err := d.Records.Get(ctx, authorityKey)
	if err != nil {
		return nil, 0, fmt.Errorf("read the authority: %w", err)
	}
	a, err := Unseal(d.Key, sealed)
	return a, revision, err
}

func (d *Desk) keep(ctx context.Context, a *Authority, revision int64) error {
	sealed, err := a.Seal(d.Key)
	if err != nil {
		return err
	}
	if err := d.Records.Put(ctx, authorityKey, sealed, revision); err != nil {
		return fmt.Errorf("keep the authority: %w", err)
	}
	return nil
}

// Rotate begins to replace the authority. Servers read the new one within a
// lifetime, see [Authority.Rotate].
func (d *Desk) Rotate(ctx context.Context, now time.Time) (*Authority, error) {
	a, revision, err := d.authority(ctx)
	if err != nil {
		return nil, err
	}
	next, err := a.Rotate(now)
	if err != nil {
		return nil, err
	}
	if err := d.keep(ctx, next, revision); err != nil {
		return nil, err
	}
	return next, nil
}

// CreateToken makes a join token for a host.
func (d *Desk) CreateToken(ctx context.Context, host, by string, life time.Duration, now time.Time) (*Token, error) {
	a, err := d.Authority(ctx)
	if err != nil {
		return nil, err
	}
	t, note, err := a.NewToken(host, by, life, now)
	if err != nil {
		return nil, err
	}
	if err := d.put(ctx, "token/"+t.ID(), note, 0); err != nil {
		return nil, fmt.Errorf("keep the join token: %w", err)
	}
	return t, nil
}

func (d *Desk) put(ctx context.Context, key string, v any, revision int64) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return d.Records.Put(ctx, key, data, revision)
}

// Issued is a certificate with the authorities to trust from now on, as PEM.
type Issued struct {
	Certificate string
	Authorities string
}

func issued(cert *x509.Certificate, trusted []*x509.Certificate) *Issued {
	i := &Issued{Certificate: encode(cert)}
	for _, c := range trusted {
		i.Authorities += encode(c)
	}
	return i
}

// Join gives a host its first certificate for its token and signing request
// (PEM).
// The token is used up by it, but for the same key.
func (d *Desk) Join(ctx context.Context, text string, csr string, now time.Time) (*Issued, error) {
	t, err := ParseToken(text)
	if err != nil {
		return nil, err
	}
	public, err := request(csr)
	if err != nil {
		return nil, err
	}
	key, err := keyDigest(public)
	if err != nil {
		return nil, err
	}
	data, revision, err := d.Records.Get(ctx, "token/"+t.ID())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrTokenUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("read the join token's note: %w", err)
	}
	note := new(TokenNote)
	if err := json.Unmarshal(data, note); err != nil {
		return nil, fmt.Errorf("read the join token's note: %w", err)
	}
	changed, err := note.use(t, key, now)
	if err != nil {
		return nil, err
	}
	if changed {
		err := d.put(ctx, "token/"+t.ID(), note, revision)
		if errors.Is(err, ErrChanged) {
			return nil, ErrTokenUsed
		}
		if err != nil {
			return nil, fmt.Errorf("use up the join token: %w", err)
		}
	}
	return d.issue(ctx, Host, t.Host, public, now)
}

func (d *Desk) issue(ctx context.Context, role Role, name string, public crypto.PublicKey, now time.Time) (*Issued, error) {
	a, err := d.Authority(ctx)
	if err != nil {
		return nil, err
	}
	cert, err := a.issue(role, name, public, nil, now)
	if err != nil {
		return nil, err
	}
	return issued(cert, a.Trusted(now)), nil
}

func keyDigest(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("the signing request's key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// Renew gives who has a certificate that counts the next one. Who it is comes
// from the connection, not from the request.
func (d *Desk) Renew(ctx context.Context, who Identity, csr string, now time.Time) (*Issued, error) {
	if who.Role != Host && who.Role != Admin {
		return nil, fmt.Errorf("%s has no certificate that is renewed here", who)
	}
	if err := d.Check(ctx, who); err != nil {
		return nil, err
	}
	public, err := request(csr)
	if err != nil {
		return nil, err
	}
	return d.issue(ctx, who.Role, who.Name, public, now)
}

// SignAdmin gives an administrator a certificate for a signing request.
func (d *Desk) SignAdmin(ctx context.Context, name, csr string, now time.Time) (*Issued, error) {
	public, err := request(csr)
	if err != nil {
		return nil, err
	}
	return d.issue(ctx, Admin, name, public, now)
}

// Revocation is the note that certificates count no more.
type Revocation struct {
	At     time.Time `json:"at"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
}

// RevokedError is returned for a certificate that counts no more.
type RevokedError struct {
	Who Identity
	Revocation
}

func (e *RevokedError) Error() string {
	text := fmt.Sprintf("the certificate of %s was revoked at %s", e.Who, e.At.Format(time.RFC3339))
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

// Revoke ends certificates: what is a serial number, or a whole identity
// (host:NAME), of which all that were issued until now end. A host may join
// again with another token.
func (d *Desk) Revoke(ctx context.Context, what string, r Revocation) error {
	for {
		_, revision, err := d.Records.Get(ctx, "cert/"+what)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("revoke %s: %w", what, err)
		}
		err = d.put(ctx, "cert/"+what, r, revision)
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrChanged) {
			return fmt.Errorf("revoke %s: %w", what, err)
		}
	}
}

// Check asks whether the certificate still counts. The error is *RevokedError,
// or that it could not be found out, which is no yes.
func (d *Desk) Check(ctx context.Context, who Identity) error {
	for _, what := range []string{who.Serial, who.String()} {
		data, _, err := d.Records.Get(ctx, "cert/"+what)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("ask whether %s was revoked: %w", who, err)
		}
		var r Revocation
		if err := json.Unmarshal(data, &r); err != nil {
			return fmt.Errorf("ask whether %s was revoked: %w", who, err)
		}
		if r.Ends(what, who) {
			return &RevokedError{who, r}
		}
	}
	return nil
}

// Ends reports whether a revocation of a serial number or an identity ends a
// certificate. Times in certificates are whole seconds, so the one of the second in
// which an identity was revoked ends too.
func (r *Revocation) Ends(what string, who Identity) bool {
	return what == who.Serial || !who.Issued.After(r.At)
}
