// SPDX-License-Identifier: Apache-2.0

// Package host is the kernel's side of one machine: it reads what the machine
// has and puts it together as an inventory.
//
// Each kernel interface has a package of its own below this one (mdev, pci,
// nvidia, module, devlink, vfio, proc); facts and record read what the
// operator and Kindred keep in files. They all read through a tree.Dir and
// report what they could not read as warnings, so that one broken parent, type
// or file never hides the rest.
//
// Reading changes nothing and opens no device. The one exception is asked for
// by name: [Options.Probe] opens idle devices that Kindred made.
package host
