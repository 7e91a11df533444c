// SPDX-License-Identifier: Apache-2.0

package vfio

import (
	"errors"
	"io/fs"

	"kindred/host/tree"
	"kindred/inventory"
)

const debugDir = "sys/kernel/debug/vfio"

// FromDebugfs tells from debugfs whether the device can migrate: the kernel
// makes a migration directory for the devices whose driver has migration
// operations, and for no other. It returns nil where the kernel shows nothing.
func FromDebugfs(d tree.Dir, id string, warn tree.Warn) *inventory.Migration {
	if _, err := d.Mode(debugDir + "/" + id); err != nil {
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			warn(debugDir+"/"+id, err)
		}
		return nil
	}
	switch _, err := d.Mode(debugDir + "/" + id + "/migration"); {
	case err == nil:
		return &inventory.Migration{Can: inventory.Yes, Source: "debugfs"}
	case errors.Is(err, fs.ErrNotExist):
		return &inventory.Migration{Can: inventory.No, Source: "debugfs"}
	default:
		warn(debugDir+"/"+id+"/migration", err)
		return nil
	}
}
