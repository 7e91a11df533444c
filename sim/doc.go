// SPDX-License-Identifier: Apache-2.0

// Package sim has machines that behave: a host's /sys with parents, types that
// share room, devices that are created and removed by writing to it, and behind
// them drivers with builds, versions and a migration of their own. It is for
// demos, tests, scale and faults.
//
// A [Machine] is a tree.Machine, so that host reads and changes it with the code
// that it has for real ones; host.Simulated opens it, and what is read says
// "simulator" as its origin. [Machine.Open] gives a device as vfio.Device, which
// Save, Load and canaries use as the kernel's.
//
// # Devices
//
// A [Driver] is data: what its streams are, which it takes, what it does wrong.
// States change as drivers/vfio/vfio_main.c walks them, and errors are the
// kernel's errnos. A guest sees a device's config space, its registers and its
// memory ([Work] and [Seen] are a guest's work and view). Registers and memory go
// with the state and follow from the work done, so memory of a gigabyte takes
// none here: it is computed as it is read, and compared as it is loaded. A
// state that was not loaded as it was saved leaves a scar that the guest sees.
//
// # Promises
//
// The same calls give the same answers: there is no clock and no chance in it,
// UUIDs and build-ids come from names and seeds. [Faults] count every operation
// and make the one that is wanted fail, so that a test can fail each of them in
// turn. Devices and machines are safe for concurrent use as the interfaces they
// implement say.
//
// What is not there: interrupts, DMA and its dirty pages, PCI functions and
// vGPUs. In PRE_COPY a driver gives the header of its stream alone, as mtty,
// hisi_acc and qat do.
package sim
