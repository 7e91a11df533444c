// SPDX-License-Identifier: Apache-2.0

// Package libvirt asks the libvirt daemon of this machine about its virtual
// machines, and has it migrate them: by libvirt's own protocol on its unix socket
// (src/remote/remote_protocol.x), without its C library.
//
// It promises:
//
//   - Every call is bounded by its context, also when the daemon hangs.
//   - What a domain has of the host's devices is read by package domain, and
//     nothing else of its XML is looked at.
//   - A refusal of libvirt's is an [*Error] with libvirt's own words.
//
// Other machines are not reached: a VM's source is the host that it runs on.
package libvirt
