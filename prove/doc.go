// SPDX-License-Identifier: Apache-2.0

// Package prove finds out whether a device's state can be moved between two
// driver builds, by moving one: that of a canary, a throw-away device that
// nobody uses, between two real drivers. What came of it is a proof
// (compat.Proof), and decides verdicts as package compat says.
//
// # How a proof is made
//
//  1. A canary is made on the source's parent and exercised as its catalog
//     says. What a guest would see of it is noted, its state is recorded into
//     a stream, it is exercised again and noted again. The canary is removed.
//  2. Control: the recording is replayed into a fresh canary of the same parent,
//     and so on the target's parent with a recording of the target's own. A
//     side that does not take its own state proves nothing.
//  3. Control: the target is given its own recording cut short. One that takes
//     it does not check what it is given, so acceptance shows nothing there
//     unless what a guest sees was compared.
//  4. The source's recording is replayed into fresh canaries of the target, at
//     least twice. Config space, regions and interrupts must be those of the
//     source; after the load the canary runs, and what a guest sees must be
//     what was noted, before and after it is exercised again.
//  5. Where the target refused, the target's control is repeated.
//
// # What comes of it
//
// Accepted: every try was taken, and whatever could be compared was equal.
// Rejected: every try ended alike, by the driver's own refusal or by a
// difference that a guest would notice, and all controls passed. Everything
// else is inconclusive: a control that failed, tries that differ, an error that
// may come from elsewhere (a full disk, a cut, I/O errors, a signal), a target
// that takes anything where nothing could be compared. A fault is never
// recorded as a rejection.
//
// The grade is working-state where exercising showed, fresh-state otherwise.
//
// # What it leaves behind
//
// Nothing. Each canary is on record before it is made and removed after its
// one use, recordings are files without a name, and a [Guard] removes what a
// killed process could not.
package prove
