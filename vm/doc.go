// SPDX-License-Identifier: Apache-2.0

// Package vm takes a virtual machine's devices from host to host together with
// the machine: it has the fleet prepare them, has the VM manager move the state,
// and tells the fleet how that ended.
//
// It promises:
//
//   - A VM's devices go together or not at all.
//   - Before the VM manager is asked for anything, the target has every device, and
//     they are handed over. What cannot be had is refused with the VM untouched.
//   - After the VM manager was asked, the fleet is told complete only when the VM
//     runs on the target, and abort only when it runs on the source; else nothing,
//     and the fleet finds out from both hosts.
//   - What was begun here, and comes to nothing, is given back.
//
// What a VM manager is, a [Manager] says: package libvirt has one, package qmp
// another. The package does no I/O of its own.
package vm
