// SPDX-License-Identifier: Apache-2.0

// Package fleet answers questions about all hosts at once, from inventories in
// memory: where a device could go and why not elsewhere, where an owner's
// devices could go together, which hosts can send to which, how far everything
// reaches, what a change would do, and how to empty some hosts.
//
// For each target three things are told apart. Compatibility is package
// compat's verdict. Room is how many more instances the target would create;
// the kernel's count is advice, its create has the last word. Readiness is
// whatever else a move needs there, such as a VM manager that is new enough.
//
// A [Fleet] does not change. An [Index] takes news of hosts one by one, and
// shows a new fleet after each, which shares with the one before what did not
// change; nobody waits for anybody. Hosts come in few makes, devices and offers
// in few classes ([compat.Class]): what they have in common is kept once, and
// each pair of classes is judged once, by the engine alone. Ties are broken by
// names, so an answer depends on nothing but what was asked.
//
// The package is pure: no I/O, no clock.
package fleet
