// SPDX-License-Identifier: Apache-2.0

// Package config is the note that lab.Boot leaves in a guest's initramfs and
// that the guest's first process reads: what this host is to be.
package config

// Path is where the note lies in the guest, as JSON.
const Path = "/etc/kindred-lab.json"

// Config is the note.
type Config struct {
	Hostname string   `json:"hostname"`
	Modules  []Module `json:"modules"`
	Network  bool     `json:"network"`
	// Disk is the block device of a root file system, which is not written to; empty:
	// the initramfs is all there is. DiskModules are loaded before it is mounted.
	Disk        string   `json:"disk,omitempty"`
	DiskModules []Module `json:"diskModules,omitempty"`
	// Systemd is the program of the disk that becomes process 1 when all is set up;
	// empty: the guest's own first process stays it.
	Systemd string `json:"systemd,omitempty"`
	// LAN is the host's address on the second network, with its length: empty for none.
	LAN string `json:"lan,omitempty"`
}

// Module is one kernel module to load, dependencies before dependents.
type Module struct {
	Path   string `json:"path"`
	Params string `json:"params,omitempty"`
}
