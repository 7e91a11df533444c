// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Expected is the one certificate that the other end of a connection between two
// agents has to have.
type Expected struct {
	Host   string // whose agent it is
	Serial string // of the certificate, which the fleet's server knows not to be revoked
}

// agentProtocol keeps these connections apart from all others.
const agentProtocol = "kindred-canary/1"

// ErrOtherPeer is returned for a certificate that is good, and not the expected one.
var ErrOtherPeer = errors.New("the other end is not the one that was announced")

// AgentServerTLS is the side of an agent to which one other agent connects. Who
// has no certificate, or another one than expected, does not get through the
// handshake.
func AgentServerTLS(c *Credentials, peer Expected, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{c.TLS()}, NextProtos: []string{agentProtocol}, Time: now,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: c.Pool(), SessionTicketsDisabled: true,
		VerifyConnection: peer.verify,
	}
}

// AgentClientTLS is the side of the agent that connects. An agent's certificate
// is one of a client, has no addresses, and is known by whose it is.
func AgentClientTLS(c *Credentials, peer Expected, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{agentProtocol}, Time: now,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return new(c.TLS()), nil },
		// The certificate is not for a name that is called: VerifyConnection does what
		// is skipped.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
				Roots: c.Pool(), CurrentTime: now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			})
			if err != nil {
				return fmt.Errorf("%w: %w", ErrOtherPeer, err)
			}
			return peer.verify(state)
		},
	}
}

// verify holds a certificate of the right authority against the expected one.
func (e Expected) verify(state tls.ConnectionState) error {
	who, err := IdentityOf(state.PeerCertificates[0])
	switch {
	case err != nil:
		return err
	case state.NegotiatedProtocol != agentProtocol:
		return fmt.Errorf("%w: it speaks another protocol", ErrOtherPeer)
	case who.Role != Host || who.Name != e.Host:
		return fmt.Errorf("%w: it is %s, and should be the agent of %s", ErrOtherPeer, who, e.Host)
	case e.Serial == "" || who.Serial != e.Serial:
		return fmt.Errorf("%w: %s has another certificate than the server knows", ErrOtherPeer, who)
	}
	return nil
}
