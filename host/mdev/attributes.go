// SPDX-License-Identifier: Apache-2.0

package mdev

import (
	"kindred/host/tree"
	"kindred/inventory"
)

// published lists, by driver, the attributes a parent has of its own that tell
// something about its types. Other parents' directories are full of their
// bus's files, which are read elsewhere or say nothing.
//
//	vfio_ap   drivers/s390/crypto/vfio_ap_drv.c: features of the matrix device
//	vfio_ccw  drivers/s390/cio/css.c and chsc: subchannel type, channel paths
var published = map[string][]string{
	"vfio_ap":  {"features"},
	"vfio_ccw": {"type", "chpids", "pimpampom"},
}

// parentAttributes reads what the driver publishes on the parent dir. The
// parent of vfio_ap is a device without a driver link on some kernels: its bus
// bears the driver's name.
func parentAttributes(dir tree.Dir, driver string, warn tree.Warn) inventory.Attributes {
	if driver == "" {
		driver = tree.LinkBase(dir, "subsystem", warn).Text()
	}
	var attrs inventory.Attributes
	for _, name := range published[driver] {
		switch v := tree.ReadValue(dir, name, warn); v.State() {
		case inventory.Present:
			attrs.Set(name, v.Text())
		case inventory.Absent:
			if attrs.Values == nil {
				attrs.Values = make(map[string]inventory.Value)
			}
			attrs.Values[name] = v
		}
	}
	return attrs
}
