// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

const (
	// Life is how long a certificate of a host, an administrator or a server is
	// valid. It is renewed after two thirds.
	Life = 30 * 24 * time.Hour
	// authorityLife bounds an authority that is never replaced.
	authorityLife = 10 * 365 * 24 * time.Hour
	// skew is how much clocks may differ.
	skew = 5 * time.Minute
)

// Authority issues certificates. It is the fleet's authorities, of which one
// signs at a time; the others are trusted because their time is to come or
// their certificates still live. It is not changed once made.
type Authority struct {
	Cluster string
	members []member // by the time from which they sign
}

type member struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	from time.Time // signs from then on, until the next one does
}

// NewAuthority makes the first authority of a cluster.
func NewAuthority(cluster string, now time.Time) (*Authority, error) {
	if err := CheckName(cluster); err != nil {
		return nil, fmt.Errorf("make an authority: the cluster's name: %w", err)
	}
	m, err := newMember(cluster, now, now)
	if err != nil {
		return nil, err
	}
	return &Authority{cluster, []member{m}}, nil
}

func newMember(cluster string, now, from time.Time) (member, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return member{}, fmt.Errorf("make an authority: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "kindred authority", Organization: []string{cluster}},
		NotBefore: now.Add(-skew), NotAfter: from.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return member{}, fmt.Errorf("make an authority: %w", err)
	}
	return member{cert, key, from}, nil
}

func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:])
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// ErrRotating is returned while a rotation is on its way.
var ErrRotating = errors.New("an authority is being replaced already")

// Rotate adds an authority. It signs from one lifetime on: by then every
// certificate was renewed at least once, and with it came the news.
func (a *Authority) Rotate(now time.Time) (*Authority, error) {
	kept := a.Pruned(now)
	if last := kept.members[len(kept.members)-1]; last.from.After(now) {
		return nil, fmt.Errorf("%w: the new one signs from %s on", ErrRotating, last.from.Format(time.RFC3339))
	}
	m, err := newMember(a.Cluster, now, now.Add(Life))
	if err != nil {
		return nil, err
	}
	return &Authority{a.Cluster, append(slices.Clone(kept.members), m)}, nil
}

// Pruned is without authorities whose last certificate has ended.
func (a *Authority) Pruned(now time.Time) *Authority {
	first := 0
	for i := 1; i < len(a.members); i++ {
		if !now.Before(a.members[i].from.Add(Life)) {
			first = i
		}
	}
	return &Authority{a.Cluster, a.members[first:]}
}

// SignsUntil is when the next authority begins to sign; zero when there is none.
func (a *Authority) SignsUntil(now time.Time) time.Time {
	if last := a.members[len(a.members)-1]; last.from.After(now) {
		return last.from
	}
	return time.Time{}
}

// signer is the authority that signs now.
func (a *Authority) signer(now time.Time) member {
	m := a.members[0]
	for _, next := range a.members[1:] {
		if !next.from.After(now) {
			m = next
		}
	}
	return m
}

// Trusted is every authority whose certificates count now.
func (a *Authority) Trusted(now time.Time) []*x509.Certificate {
	var list []*x509.Certificate
	for _, m := range a.Pruned(now).members {
		list = append(list, m.cert)
	}
	return list
}

// Fingerprints name the authorities that are trusted now.
func (a *Authority) Fingerprints(now time.Time) []string {
	var list []string
	for _, cert := range a.Trusted(now) {
		list = append(list, Fingerprint(cert))
	}
	return list
}

// Fingerprint is the SHA-256 of a certificate, in hexadecimal.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// issue signs a certificate for a public key.
func (a *Authority) issue(role Role, name string, public crypto.PublicKey, reach []string, now time.Time) (*x509.Certificate, error) {
	if err := CheckName(name); err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	ca := a.signer(now)
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: string(role) + ":" + name, Organization: []string{a.Cluster}},
		NotBefore: now.Add(-skew), NotAfter: now.Add(Life),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if role == Server {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		for _, at := range reach {
			if ip := net.ParseIP(at); ip != nil {
				template.IPAddresses = append(template.IPAddresses, ip)
			} else {
				template.DNSNames = append(template.DNSNames, at)
			}
		}
	}
	cert, err := sign(template, ca.cert, public, ca.key)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for %s:%s: %w", role, name, err)
	}
	return cert, nil
}

// request reads a signing request (PKCS #10, PEM): its signature has to be
// good, and its key one on P-256. Nothing else in it counts.
func request(text string) (crypto.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != requestBlock {
		return nil, errors.New("the signing request is not a PEM block CERTIFICATE REQUEST")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the signing request cannot be read: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the signing request is not signed with its own key: %w", err)
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the signing request's key is not ECDSA on P-256")
	}
	return key, nil
}

// sealedMember is a member as it is sealed.
type sealedMember struct {
	Certificate []byte    `json:"certificate"`
	Key         []byte    `json:"key"` // PKCS #8
	From        time.Time `json:"from"`
}

// Seal encodes and encrypts the authority.
func (a *Authority) Seal(key *SealKey) ([]byte, error) {
	var list []sealedMember
	for _, m := range a.members {
		private, err := x509.MarshalPKCS8PrivateKey(m.key)
		if err != nil {
			return nil, fmt.Errorf("seal the authority: %w", err)
		}
		list = append(list, sealedMember{m.cert.Raw, private, m.from})
	}
	plain, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("seal the authority: %w", err)
	}
	return key.seal(a.Cluster, plain)
}

// Unseal opens what Seal made.
func Unseal(key *SealKey, sealed []byte) (*Authority, error) {
	cluster, plain, err := key.unseal(sealed)
	if err != nil {
		return nil, err
	}
	var list []sealedMember
	if err := json.Unmarshal(plain, &list); err != nil || len(list) == 0 {
		return nil, fmt.Errorf("unseal the authority: it is damaged: %w", err)
	}
	a := &Authority{Cluster: cluster}
	for _, s := range list {
		cert, err := x509.ParseCertificate(s.Certificate)
		if err != nil {
			return nil, fmt.Errorf("unseal the authority: %w", err)
		}
		private, err := x509.ParsePKCS8PrivateKey(s.Key)
		if err != nil {
			return nil, fmt.Errorf("unseal the authority: %w", err)
		}
		ec, ok := private.(*ecdsa.PrivateKey)
		if !ok || !ec.PublicKey.Equal(cert.PublicKey) {
			return nil, errors.New("unseal the authority: a key is not its certificate's")
		}
		a.members = append(a.members, member{cert, ec, s.From})
	}
	return a, nil
}
