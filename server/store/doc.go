// SPDX-License-Identifier: Apache-2.0

// Package store keeps what the fleet server knows in etcd, its own or an
// existing cluster. It is the only package that knows etcd.
//
// What is kept is records under keys; [Key] makes them. It promises:
//
//   - Commit is one transaction: all of it happens, at one revision, or none of
//     it, and only while every guard holds. An error that is [ErrUncertain]
//     leaves open which; the record itself tells afterwards.
//   - Watch tells every change after a revision, in order, all those of one
//     revision together; or it ends with [ErrCompacted], and Read begins anew.
//   - Revisions only grow, also across a restore from a backup, so that they can
//     serve as fences.
//   - A store that has no majority refuses; it never answers with what is old.
package store

import "errors"

var (
	// ErrUncertain: the transaction may have happened or not.
	ErrUncertain = errors.New("the store did not say whether it was written")
	// ErrUnavailable: the store cannot be reached, or has no majority.
	ErrUnavailable = errors.New("the store cannot be reached, or has no majority")
	// ErrCompacted: what happened since that revision is not kept any more.
	ErrCompacted = errors.New("changes since that revision are not kept any more")
	// ErrNotEmpty: a backup is restored into an empty store only.
	ErrNotEmpty = errors.New("the store is not empty")
)

// Kinds of records, by the first part of their keys.
const (
	Static    = "static"    // STATIC-HASH: a static part of inventories, compressed
	Host      = "host"      // NAME: what one host reported last
	Live      = "live"      // NAME: whether the host is heard of, and by which replica
	Room      = "room"      // NAME: changed with every claim on the host
	Claim     = "claim"     // ID
	Device    = "device"    // HOST/ID: the claim that holds room for this device
	Migration = "migration" // ID
	Canary    = "canary"    // ID: a canary order
	Drain     = "drain"     // ID
	Owners    = "owners"    // ID of a drain: whose devices they are, compressed
	Proof     = "proof"     // KEY/TIME-HASH: a file of proofs
	Replica   = "replica"   // ID: a server that runs; goes with its lease
	Token     = "token"     // HASH: of one that lets a host join
	Cert      = "cert"      // SERIAL: of a certificate that is revoked
	CA        = "ca"        // the sealed key
	Cluster   = "cluster"   // what this store is of
	base      = "base"      // what is added to etcd's revisions, see Restore
)

// Key is the key of a record.
func Key(kind, name string) string { return kind + "/" + name }

// Record is one record at one revision.
type Record struct {
	Key      string
	Value    []byte
	Created  int64 // the revision at which it came to be
	Revision int64 // the one at which it was written last
	Gone     bool  // it was deleted at Revision
}

// Guard holds while a record was last written at a revision; 0: while it is not
// there.
type Guard struct {
	Key      string
	Revision int64
}

// Write puts a record, or deletes it.
type Write struct {
	Key    string
	Value  []byte
	Delete bool
}

// Txn is what is written at once, and under which condition.
type Txn struct {
	If   []Guard
	Then []Write
}
