// SPDX-License-Identifier: Apache-2.0

package api

import (
	"kindred/compat"
	"kindred/fleet"
)

// ProofOrigin is how a proof came to the server.
type ProofOrigin string

const (
	Ordered  ProofOrigin = "canary"   // two agents made it for a canary order
	Observed ProofOrigin = "observed" // a migration ended so
	Imported ProofOrigin = "imported" // somebody sent it, signed by a key that was trusted then
)

// KeptProof is a proof that the server keeps. All of them count.
type KeptProof struct {
	ID     string       `json:"id"`  // the server's name for it
	Key    string       `json:"key"` // what it is about, see docs/proofs.md
	Origin ProofOrigin  `json:"origin"`
	Signer string       `json:"signer,omitempty"` // of an imported one, as the signer calls itself
	Proof  compat.Proof `json:"proof"`
}

// ProofFilter chooses proofs. What is empty chooses all.
type ProofFilter struct {
	Key    string // the beginning of one
	Type   string // the source's or the target's, by its full name
	Host   string // the source's or the target's
	Result compat.Result
}

// MissingProofs are the fewest proofs that settle every unknown that devices of
// the fleet wait for, with hosts between which they can be ordered.
type MissingProofs struct {
	Missing []fleet.Canary `json:"missing"`
	Silent  int            `json:"silent"` // hosts that do not report: nothing is known of what they wait for
}

// Proofs is one page of proofs, by id.
type Proofs struct {
	Proofs   []KeptProof `json:"proofs"`
	Next     string      `json:"next,omitempty"`
	Revision int64       `json:"revision"`
}
