// SPDX-License-Identifier: Apache-2.0

// Package trust says who may speak to whom in a fleet: a certificate authority
// of its own, tokens with which hosts join, certificates that renew themselves,
// and what was revoked.
//
// It promises:
//
//   - The authority's private keys are stored only sealed, with a key that is in
//     a file outside of the store: who has a backup of the store alone can issue
//     nothing.
//   - A join token is for one host, for a short time and for one private key. The
//     host verifies the server by it before it sends a byte of it, and the server
//     keeps only its digest.
//   - A certificate has one role: a host's speaks for that host alone, an
//     administrator's for a person, a server's only answers. What is asked for in
//     a signing request decides nothing but the public key.
//   - A new authority is trusted one lifetime of a certificate before it signs,
//     and an old one for one lifetime after it signed last, so that no renewal on
//     the way breaks a connection.
//   - Nobody is asked for the time: it is passed in.
//
// [Authority] is the pure part, [Desk] issues and revokes over a store that
// somebody else keeps, [Credentials] are what a host or an administrator has on
// disk, and [ServerTLS], [ClientTLS] and [JoinTLS] are the two sides of a
// connection, TLS 1.3 only.
package trust
