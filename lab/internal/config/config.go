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
}

// Module is one kernel module to load, dependencies before dependents.
type Module struct {
	Path   string `json:"path"`
	Params string `json:"params,omitempty"`
}
