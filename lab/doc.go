// SPDX-License-Identifier: Apache-2.0

// Package lab boots real kernels with real mediated devices, as many hosts as
// there is memory for, in about three seconds each, on a machine that has
// neither such hardware nor KVM.
//
// [Prepare] takes a Debian kernel apart, builds the kernel's own sample drivers
// mtty, mdpy and mbochs for it (and mtty a second time, as a distribution's
// rebuild would) and caches the result. [Boot] starts a [Host] under QEMU and
// returns a [Guest] that runs commands, takes and gives files, and packs pieces
// of its /sys for tests that want to see what a real one looks like:
//
//	artefacts, err := lab.Prepare(ctx, "", log.Printf)
//	guest, err := lab.Boot(ctx, artefacts, lab.Host{Name: "a", Modules: []string{"mtty"}})
//	defer guest.Close()
//	result, err := guest.Run(ctx, lab.Cmd{Argv: []string{"ls", "/sys/class/mdev_bus"}})
//
// A guest is a kernel and an initramfs, nothing else: busybox, the modules with
// depmod's index, and the program of lab/guest as first process, which answers
// over a virtio-serial port. It keeps no state and leaves none: QEMU inherits
// all it needs as descriptors, dies with the program that started it, and writes
// no file.
//
// Everything that can block takes a context. A guest that dies, by a panic or
// otherwise, ends every call with a [*DiedError] that carries the console's end.
//
// Tests that boot are skipped unless KINDRED_LAB=1; see [KnownHosts] for the hosts
// people mean by name, lab/README.md for the rest, and lab/cmd/kindred-lab for a
// shell on each of them.
package lab
