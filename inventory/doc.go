// SPDX-License-Identifier: Apache-2.0

// Package inventory is Kindred's vocabulary as Go types and as JSON: one
// host, the parents on it that offer types, the devices that were made from
// those types, and everything else that decides whether a device can move.
//
// An [Inventory] is one host at one moment, one JSON document whose shape is
// fixed by its schema ([Schema]). It is plain data: every value is text as the
// kernel shows it, one value per attribute, and nothing in it was judged.
// Verdicts are made from inventories by package compat, without asking the
// host again.
//
// # Three states
//
// A fact is known, known not to exist, or not observed; the three are never
// mixed, because an answer built on a missing fact has to say "unknown".
// [Value] holds one such fact. In JSON a string is a value, null is "known not
// to exist", and a key that is left out is "not observed". [Attributes] is a
// set of them read from one place; when the whole place was listed the set is
// complete, and then a name that is not in it is known not to exist.
//
// # Promises
//
// The package does no I/O and reads no clock. [Decode] accepts only what
// [Encode] could have written: an unknown schema, an unknown key, a duplicate
// device or a reference to nothing is an [*Error] with its place. Slices are
// in a fixed order after [Inventory.Sort], so equal hosts encode to equal
// bytes.
package inventory
