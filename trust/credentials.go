// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// Credentials are a private key, its certificate and whom to trust: one PEM
// file, which is replaced as a whole.
type Credentials struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	authorities []*x509.Certificate
}

// NewRequest makes a private key and a request (PEM) to sign its public one.
func NewRequest() (csr string, c *Credentials, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return "", nil, fmt.Errorf("make a signing request: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: requestBlock, Bytes: der})), &Credentials{key: key}, nil
}

// Take puts in the certificate that was issued for the key.
func (c *Credentials) Take(i *Issued) error {
	key, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		return fmt.Errorf("encode the key: %w", err)
	}
	file := pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: key})
	file = append(append(file, i.Certificate...), i.Authorities...)
	taken, err := ParseCredentials(file)
	if err != nil {
		return fmt.Errorf("what was issued: %w", err)
	}
	*c = *taken
	return nil
}

// Identity is who they speak for.
func (c *Credentials) Identity() (Identity, error) { return IdentityOf(c.certificate) }

// Expires is when the certificate ends.
func (c *Credentials) Expires() time.Time { return c.certificate.NotAfter }

// RenewAt is when it should be renewed: after two thirds of its life.
func (c *Credentials) RenewAt() time.Time {
	return c.certificate.NotBefore.Add(c.certificate.NotAfter.Sub(c.certificate.NotBefore) / 3 * 2)
}

// TLS is the certificate as connections take it.
func (c *Credentials) TLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{c.certificate.Raw}, PrivateKey: c.key, Leaf: c.certificate}
}

// Pool is whom to trust.
func (c *Credentials) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, ca := range c.authorities {
		pool.AddCert(ca)
	}
	return pool
}

const (
	keyBlock         = "PRIVATE KEY"
	certificateBlock = "CERTIFICATE"
	requestBlock     = "CERTIFICATE REQUEST"
)

func encode(cert *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: cert.Raw}))
}

// Encode is the credentials' file: the key, the certificate, the authorities.
func (c *Credentials) Encode() ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		return nil, fmt.Errorf("encode credentials: %w", err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: key})) + encode(c.certificate)
	for _, ca := range c.authorities {
		text += encode(ca)
	}
	return []byte(text), nil
}

// ParseCredentials reads what Encode wrote.
func ParseCredentials(data []byte) (*Credentials, error) {
	c := new(Credentials)
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		switch block.Type {
		case keyBlock:
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("credentials: the key: %w", err)
			}
			c.key, _ = key.(*ecdsa.PrivateKey)
		case certificateBlock:
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("credentials: a certificate: %w", err)
			}
			if cert.IsCA {
				c.authorities = append(c.authorities, cert)
			} else {
				c.certificate = cert
			}
		}
	}
	if c.key == nil || c.certificate == nil || len(c.authorities) == 0 {
		return nil, errors.New("credentials: a key, a certificate and an authority are needed in one PEM file")
	}
	if !c.key.PublicKey.Equal(c.certificate.PublicKey) {
		return nil, errors.New("credentials: the key is not the certificate's")
	}
	return c, nil
}

// ReadCredentials reads a credentials file, which only its owner may read.
func ReadCredentials(file string) (*Credentials, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("credentials %s: others than its owner may read or write it (%v); chmod 600 it", file, info.Mode().Perm())
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	c, err := ParseCredentials(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// Write writes a credentials file: the old one or the new one is there, also
// after a power cut.
func (c *Credentials) Write(file string) error {
	data, err := c.Encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	if err := renameio.WriteFile(file, data, 0o600); err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	return nil
}
