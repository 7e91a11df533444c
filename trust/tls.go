// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Serving is what a server needs of its authority. The private key of its
// certificate is in memory only, and new with each certificate.
type Serving struct {
	Name  string   // the server's, within the cluster
	Reach []string // DNS names and IP addresses by which it is called
	// Now is the clock.
	Now func() time.Time
	// Authority is asked at each handshake; it should be at hand.
	Authority func() (*Authority, error)
	// Check asks whether a certificate was revoked; the error ends the handshake.
	// Requests of connections that live long have to be checked again.
	Check func(Identity) error

	mu    sync.Mutex
	cert  *tls.Certificate
	until time.Time // from when on another is made
	by    string    // authority that signed it
}

// ServerTLS is the server's side of a connection. A client without certificate
// is let in, to join: what it may do else is for the handlers to say.
func ServerTLS(s *Serving) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			now := s.Now()
			a, err := s.Authority()
			if err != nil {
				return nil, err
			}
			cert, err := s.certificate(a, now)
			if err != nil {
				return nil, err
			}
			pool := x509.NewCertPool()
			for _, ca := range a.Trusted(now) {
				pool.AddCert(ca)
			}
			return &tls.Config{
				MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2", "http/1.1"},
				ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool, Time: s.Now,
				// Each connection is checked as a new one.
				SessionTicketsDisabled: true,
				VerifyConnection:       s.verify,
			}, nil
		},
	}
}

// verify refuses certificates without a role and ones that were revoked.
func (s *Serving) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	who, err := IdentityOf(state.PeerCertificates[0])
	if err != nil {
		return err
	}
	if s.Check == nil {
		return nil
	}
	return s.Check(who)
}

// certificate is the server's own, made anew in time and when another
// authority signs. The authorities come with it: who joins finds there the one
// that its token names.
func (s *Serving) certificate(a *Authority, now time.Time) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	by := Fingerprint(a.signer(now).cert)
	if s.cert != nil && s.by == by && now.Before(s.until) {
		return s.cert, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the server's key: %w", err)
	}
	leaf, err := a.issue(Server, s.Name, key.Public(), s.Reach, now)
	if err != nil {
		return nil, err
	}
	cert := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	for _, ca := range a.Trusted(now) {
		cert.Certificate = append(cert.Certificate, ca.Raw)
	}
	s.cert, s.by, s.until = cert, by, now.Add(Life/3*2)
	return cert, nil
}

// Peer is who is at the other end of a connection that was verified; false for
// somebody without certificate.
func Peer(state *tls.ConnectionState) (Identity, bool) {
	if state == nil || len(state.VerifiedChains) == 0 {
		return Identity{}, false
	}
	who, err := IdentityOf(state.PeerCertificates[0])
	return who, err == nil
}

// ClientTLS is the client's side of a connection. The server's certificate has
// to be of the cluster's authority and for the name it is called by.
func ClientTLS(c *Credentials, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: c.Pool(), Time: now,
		VerifyConnection: isServer,
		// Whatever authorities the server names: a refusal says more than being
		// nobody to it.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return new(c.TLS()), nil },
	}
}

func isServer(state tls.ConnectionState) error {
	who, err := IdentityOf(state.PeerCertificates[0])
	if err != nil {
		return err
	}
	if who.Role != Server {
		return fmt.Errorf("the other end is %s, and no server", who)
	}
	return nil
}

// ErrForeignServer is returned for a server that is not of the token's cluster.
var ErrForeignServer = errors.New("the server has no certificate of an authority that the join token names: it is another cluster's, or somebody is in between; nothing was sent")

// JoinTLS is the side of a host that has only a token: the server's
// certificate has to be of an authority that the token names, whatever names
// this machine knows the server by. Nothing is sent before.
func JoinTLS(t *Token, server string, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: server, Time: now,
		// Whom to trust comes from the token: VerifyConnection does what is skipped.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			roots := x509.NewCertPool()
			found := false
			for _, cert := range state.PeerCertificates[1:] {
				if t.pins(Fingerprint(cert)) {
					roots.AddCert(cert)
					found = true
				}
			}
			if !found {
				return ErrForeignServer
			}
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
				Roots: roots, DNSName: server, CurrentTime: now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			})
			if err != nil {
				return fmt.Errorf("%w (%w)", ErrForeignServer, err)
			}
			return isServer(state)
		},
	}
}
