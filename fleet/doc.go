// SPDX-License-Identifier: Apache-2.0

// Package fleet answers questions about all hosts at once, from inventories in
// memory: where a device could go and why not elsewhere, and which hosts can
// send to which.
//
// For each target three things are told apart. Compatibility is package
// compat's verdict. Room is how many more instances the target would create;
// the kernel's count is advice, its create has the last word. Readiness is
// whatever else a move needs there, such as a VM manager that is new enough.
//
// The package is pure: no I/O, no clock.
package fleet
