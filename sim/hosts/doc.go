// SPDX-License-Identifier: Apache-2.0

// Package hosts runs agents over simulated machines, from one to thousands in a
// process, and a VM manager that moves real state between their devices.
//
// A [Host] is an agent.Managed: it is read, changed and put right by the code
// that does it on real machines, and only its kernel is package sim's. What that
// code keeps in files (records, the agent's journal, the operator's policy) is
// in files here too, below a directory of the host's own, so that an agent that
// is stopped at any moment finds after it what a killed one would.
//
// A [Manager] is what QEMU and libvirt are to Kindred: it has devices open for
// as long as a guest runs, lets the guest work, and between a migration's hand
// over and its completion saves the state on one host and loads it on another.
// It says whether the guest saw the same before and after.
package hosts
