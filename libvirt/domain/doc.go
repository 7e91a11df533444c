// SPDX-License-Identifier: Apache-2.0

// Package domain reads libvirt's XML of a virtual machine for the host devices
// that are assigned to it, and puts other addresses in their place.
//
// It promises:
//
//   - Nothing is changed but what has to be. The text is never written anew: a
//     tokenizer finds where an address stands, and those bytes are replaced.
//     Comments, CDATA, order, quotes, white space, other namespaces
//     (qemu:commandline) and elements that it has never heard of stay as they are.
//   - What is not understood is refused, not guessed: a document type, an entity
//     that is declared, two addresses where one belongs, an address that is none.
//   - Its work is bounded by the length of the text, which is bounded itself.
//
// Which elements carry a host's device, by libvirt's formatdomain: hostdev of
// type mdev (model vfio-pci, vfio-ccw, vfio-ap) and of type pci, and interface
// of type hostdev, each with the address in its source element. The address
// outside of source is the guest's own view, and is no business of this package.
//
// The package does no I/O.
package domain
