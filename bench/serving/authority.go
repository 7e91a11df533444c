// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serving

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority signs certificates, as that of a site does that has one already.
type Authority struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
	public *ecdsa.PrivateKey // all clients' key: making ten thousand is not what is measured
}

// life is how long certificates are good: longer than any measurement.
const life = 24 * time.Hour

func newAuthority() (*Authority, error) {
	a := new(Authority)
	var err, err2 error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.public, err2 = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err, err2); err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.serial = 1
	a.cert, err = a.sign(template, template, a.key)
	return a, err
}

func (a *Authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of %s: %w", template.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

func (a *Authority) issue(name string, use x509.ExtKeyUsage) (*tls.Certificate, error) {
	a.serial++
	cert, err := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a.cert, a.public)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: a.public, Leaf: cert}, nil
}

// Client is the TLS side of a client of that name: host:NAME or admin:NAME. Not
// for several goroutines at once.
func (a *Authority) Client(name string) (*tls.Config, error) {
	cert, err := a.issue(name, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*cert}, RootCAs: pool}, nil
}

// write writes what the server has of it, and for [Read] the whole.
func (a *Authority) write(dir string) error {
	server, err := a.issue("server:bench", x509.ExtKeyUsageServerAuth)
	if err != nil {
		return err
	}
	file := func(name, kind string, der []byte, err error) error {
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	}
	public, err := x509.MarshalPKCS8PrivateKey(a.public)
	own, err2 := x509.MarshalPKCS8PrivateKey(a.key)
	return errors.Join(
		file("ca.pem", "CERTIFICATE", a.cert.Raw, nil), file("ca.key", "PRIVATE KEY", own, err2),
		file("server.pem", "CERTIFICATE", server.Certificate[0], nil), file("server.key", "PRIVATE KEY", public, err),
	)
}

// Read reads the authority of a prepared directory, in another process.
func Read(dir string) (*Authority, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	a := &Authority{cert: pair.Leaf, key: pair.PrivateKey.(*ecdsa.PrivateKey), serial: 1 << 32}
	a.public, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return a, err
}
