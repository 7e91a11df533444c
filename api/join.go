// SPDX-License-Identifier: Apache-2.0

package api

// Join asks for an agent's first certificate, with a token that is good for one
// host and one time. The server's certificate is checked by the fingerprint in
// the token before this is sent.
type Join struct {
	Token string `json:"token"`
	CSR   string `json:"csr"` // PEM
}

// Rotation asks for an agent's next certificate, by the one that it has.
type Rotation struct {
	CSR string `json:"csr"` // PEM
}

// Joined is an agent's certificate.
type Joined struct {
	Host        string `json:"host"`
	Certificate string `json:"certificate"` // PEM, with the chain
	CA          string `json:"ca"`          // PEM
}
