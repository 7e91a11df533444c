// SPDX-License-Identifier: Apache-2.0

package vfio

import (
	"errors"
	"fmt"

	"kindred/inventory"
)

// Probe opens an idle device and asks it for its migration features. The
// caller answers for the device being idle and Kindred's own: opening a device
// somebody uses disturbs it. Its state is left as it is. id is the mdev's UUID or
// the PCI address, group the number of its IOMMU group.
func Probe(id, group string) (*inventory.Migration, error) {
	d, err := openGroup(id, group)
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", id, err)
	}
	defer d.release()
	flags, err := d.flags()
	switch {
	case errors.Is(err, ErrNotMigratable):
		return &inventory.Migration{Can: inventory.No, Source: "probe"}, nil
	case err != nil:
		return nil, fmt.Errorf("probe: %w", err)
	}
	return migration(flags), nil
}

// migration is what an inventory says of the flags.
func migration(flags Flags) *inventory.Migration {
	m := &inventory.Migration{Can: inventory.No, Source: "probe"}
	for _, f := range []struct {
		bit  Flags
		name string
	}{{FlagStopCopy, "stop-copy"}, {FlagP2P, "p2p"}, {FlagPreCopy, "pre-copy"}} {
		if flags&f.bit != 0 {
			m.Flags = append(m.Flags, f.name)
		}
	}
	if flags&FlagStopCopy != 0 { // without it no other flag means anything
		m.Can = inventory.Yes
	}
	return m
}
