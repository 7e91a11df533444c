// SPDX-License-Identifier: Apache-2.0

// Package server is the fleet server: it knows what every host reported,
// answers questions about all of them from memory, holds room on targets, and
// carries migrations from step to step. docs/fleet.md explains it to users.
//
// Any number of servers share one store, and none is special: each follows the
// store's changes, answers from what it has seen, and writes in transactions
// that hold only while what it judged by is still so.
//
// It promises:
//
//   - A device's owner is one host at every moment. The change of owner is one
//     committed record, the one that makes a migration [api.Completing].
//   - In doubt nothing is removed: what says that a device is not to exist is a
//     committed record as well, and it is over only when the agent confirmed it.
//   - There are never more claims on a host than it has room for, by its last
//     report, the catalogs' capacity models and all claims at that moment.
//   - What is answered with success is in the store, and this server has seen it.
//   - A server that stops between any two transactions leaves what another one,
//     or the same one later, carries on from.
//
// The machine of states is in machine.go, without I/O or clock.
package server
