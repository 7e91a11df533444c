// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"io/fs"
	"strings"

	"kindred/host/module"
	"kindred/host/tree"
	"kindred/inventory"
)

// readKernel identifies the running kernel.
func (h *Host) readKernel(warn tree.Warn) inventory.Kernel {
	value := func(name string) inventory.Value {
		text, err := tree.FileText(h.dir, "proc/sys/kernel/"+name)
		switch {
		case err == nil:
			return inventory.Of(text)
		case !errors.Is(err, fs.ErrNotExist):
			warn("proc/sys/kernel/"+name, err)
		}
		return inventory.Value{}
	}
	return inventory.Kernel{
		Release: value("osrelease"), Version: value("version"), Arch: value("arch"),
		BuildID: module.KernelBuildID(h.dir, warn),
	}
}

// readOS reads /etc/os-release (os-release(5)): KEY=value or KEY="value".
func readOS(d tree.Dir, warn tree.Warn) (o inventory.OS) {
	text, err := tree.FileText(d, "etc/os-release")
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			warn("etc/os-release", err)
		}
		return o
	}
	o.ID, o.VersionID = inventory.None(), inventory.None()
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			continue
		}
		value = strings.Trim(value, `"'`)
		switch key {
		case "ID":
			o.ID = inventory.Of(value)
		case "VERSION_ID":
			o.VersionID = inventory.Of(value)
		}
	}
	return o
}
