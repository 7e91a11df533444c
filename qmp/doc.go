// SPDX-License-Identifier: Apache-2.0

// Package qmp speaks with one QEMU over its monitor's socket, and has it migrate
// its VM: for VMs that were not started by libvirt. The protocol is QEMU's
// docs/interop/qmp-spec.rst, the commands are those of qapi/*.json.
//
// It promises:
//
//   - Every command is bounded by its context, and every answer in its size: a
//     guest that took its QEMU over cannot fill this program's memory.
//   - Which devices a VM has is asked of QEMU's object tree, as they are, and not
//     taken from how it was started.
//   - A VM is said to run on the target only when its QEMU there said so, over the
//     migration's own return path or over its own monitor.
//
// QEMU lets one client at a time speak at a socket: give it one of its own.
package qmp
