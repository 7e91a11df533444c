// SPDX-License-Identifier: Apache-2.0

package api

import "time"

// Join asks for an agent's first certificate, with a token that is good for one
// host and one time. The server's certificate is checked by the fingerprint in
// the token before this is sent.
type Join struct {
	Token string `json:"token"`
	CSR   string `json:"csr"` // PEM
}

// Rotation asks for an agent's, or an administrator's, next certificate, by the
// one that it has.
type Rotation struct {
	CSR string `json:"csr"` // PEM
}

// Joined is a certificate.
type Joined struct {
	Name        string `json:"name"`        // host:NAME or admin:NAME
	Certificate string `json:"certificate"` // PEM
	CA          string `json:"ca"`          // PEM: every authority to trust from now on
}

// TokenRequest asks for a token with which a host's agent joins.
type TokenRequest struct {
	Host string   `json:"host"`
	TTL  Duration `json:"ttl,omitzero"` // how long it is good; empty: an hour
}

// Token is a join token. It is a secret.
type Token struct {
	Host    string    `json:"host"`
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// AdminRequest asks for an administrator's certificate.
type AdminRequest struct {
	Name string `json:"name"`
	CSR  string `json:"csr"` // PEM
}

// Revocation ends certificates.
type Revocation struct {
	What   string `json:"what"` // host:NAME or admin:NAME, all issued until now; or a serial number
	Reason string `json:"reason,omitempty"`
}

// Authority is what signs certificates.
type Authority struct {
	Fingerprints []string  `json:"fingerprints"`  // that are trusted; the first signs
	Next         time.Time `json:"next,omitzero"` // when another begins to sign
}
