// SPDX-License-Identifier: Apache-2.0

// Package compat decides whether a device can live-migrate to a target: a pure
// function of two inventories, the catalogs and the proofs.
//
// An [Engine] holds what is known of drivers. [Engine.Source] prepares a
// device, [Engine.Offers] what a host could create, and [Engine.Check] judges
// one against the other, in this direction only. The same inputs give the same
// [Verdict], with no I/O, no clock and no order of arguments that matters.
//
// A verdict is the worst of its findings: incompatible before unknown before
// compatible. Findings are made in a fixed order: the identity of the type,
// its device API, whether it can migrate at all, each attribute's rule (on
// what the device promised its guest at first start, and on what it is now),
// the build of the drivers, builds known to be bad, and proofs. A fact that
// was not observed makes a finding unknown, so that removing a fact from an
// inventory leaves the outcome or makes it unknown; it never turns one
// definite answer into the other. (That holds where catalog and observation
// agree: where they contradict each other, what forbids the migration wins. A
// fact stated for a type stands before one stated for its parent or host, and
// leaving it out uncovers that one.)
//
// Room and readiness are not compatibility and are not judged here; package
// fleet adds them.
package compat
