// SPDX-License-Identifier: Apache-2.0

package prove

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"kindred/compat"
	"kindred/host/vfio"
)

// Visible is what a guest sees of a device whatever its state: what must be
// the same after a move, as a VM manager compares it (QEMU's
// get_pci_config_device) and a guest relies on it.
type Visible struct {
	API     string        `json:"api"`
	Regions []vfio.Region `json:"regions"`
	IRQs    []uint32      `json:"irqs"`
	// Config is a PCI device's config space without what a guest or a VM
	// manager writes: identity, class, revision, subsystem, capabilities in
	// their places.
	Config compat.Bytes `json:"config,omitempty"`
}

// look reads what a guest sees of the device.
func look(d vfio.Device) (*Visible, error) {
	info, err := d.Info()
	if err != nil {
		return nil, fmt.Errorf("ask what the device is: %w", err)
	}
	v := &Visible{API: info.API, Regions: info.Regions, IRQs: info.IRQs}
	if info.API != "vfio-pci" || len(info.Regions) <= vfio.RegionConfig {
		return v, nil
	}
	config := make([]byte, min(info.Regions[vfio.RegionConfig].Size, configSize))
	if err := d.ReadRegion(vfio.RegionConfig, 0, config); err != nil {
		return nil, fmt.Errorf("read config space: %w", err)
	}
	v.Config = identity(config)
	return v, nil
}

// Offsets of a PCI function's config space (include/uapi/linux/pci_regs.h).
const (
	configSize    = 256
	configHeader  = 0x40
	configStatus  = 0x06
	statusCapList = 0x10
	configCaps    = 0x34
)

// identity clears in config space what is no identity, and keeps of each
// capability only its number and the place of the next: their contents may
// differ between hosts (vendor-specific ones of NVIDIA's do).
func identity(config []byte) []byte {
	id := make([]byte, len(config))
	copy(id, config[:min(len(config), configHeader)])
	if len(id) < configHeader {
		return id
	}
	for _, r := range [][2]int{
		{0x04, 0x08}, // command, status
		{0x0c, 0x0e}, // cache line size, latency timer
		{0x0f, 0x28}, // self test, addresses
		{0x30, 0x34}, // ROM address
		{0x3c, 0x3d}, // interrupt line
	} {
		clear(id[r[0]:r[1]])
	}
	if config[configStatus]&statusCapList == 0 {
		id[configCaps] = 0
		return id
	}
	id[configStatus] = statusCapList
	seen := make(map[int]bool)
	for at := int(config[configCaps]) &^ 3; at >= configHeader && at+1 < len(config) && !seen[at]; at = int(config[at+1]) &^ 3 {
		seen[at] = true
		id[at], id[at+1] = config[at], config[at+1]
	}
	return id
}

// differs says in what another device is not what this one is; empty for equal.
func (v *Visible) differs(o *Visible) string {
	switch {
	case v.API != o.API:
		return fmt.Sprintf("the device API is %s, and %s there", v.API, o.API)
	case len(v.Config) != len(o.Config):
		return fmt.Sprintf("config space has %d bytes, and %d there", len(v.Config), len(o.Config))
	case !bytes.Equal(v.Config, o.Config):
		at := firstDifference(v.Config, o.Config)
		return fmt.Sprintf("config space at 0x%02x is %02x, and %02x there", at, v.Config[at], o.Config[at])
	case !slices.Equal(v.IRQs, o.IRQs):
		return fmt.Sprintf("interrupts are %v, and %v there", v.IRQs, o.IRQs)
	case len(v.Regions) != len(o.Regions):
		return fmt.Sprintf("it has %d regions, and %d there", len(v.Regions), len(o.Regions))
	}
	for i, r := range v.Regions {
		if r != o.Regions[i] {
			return fmt.Sprintf("region %d is of %d bytes, and of %d there, or its access differs", i, r.Size, o.Regions[i].Size)
		}
	}
	return ""
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

// Seen is what one observation read: short ones as they are, long ones as
// their SHA-256.
type Seen struct {
	compat.Access
	Bytes  compat.Bytes `json:"bytes,omitempty"`
	Digest string       `json:"sha256,omitempty"`
}

// maxSeen is the longest observation that is kept as it is.
const maxSeen = 64

// observe reads what a guest would.
func observe(d vfio.Device, list []compat.Access) ([]Seen, error) {
	seen := make([]Seen, 0, len(list))
	for _, a := range list {
		data := make([]byte, a.Length)
		if err := d.ReadRegion(a.Region, a.At, data); err != nil {
			return nil, fmt.Errorf("read region %d at 0x%x: %w", a.Region, a.At, err)
		}
		s := Seen{Access: a}
		if len(data) <= maxSeen {
			s.Bytes = data
		} else {
			sum := sha256.Sum256(data)
			s.Digest = hex.EncodeToString(sum[:])
		}
		seen = append(seen, s)
	}
	return seen, nil
}

// accessesOf are the accesses that were made.
func accessesOf(list []Seen) []compat.Access {
	accesses := make([]compat.Access, len(list))
	for i, s := range list {
		accesses[i] = s.Access
	}
	return accesses
}

// changed says what differs between two observations; empty for nothing.
func changed(before, after []Seen) string {
	if len(before) != len(after) {
		return fmt.Sprintf("%d observations, and %d there", len(before), len(after))
	}
	for i, s := range before {
		o := after[i]
		switch {
		case s.Region != o.Region || s.At != o.At || s.Length != o.Length:
			return "other observations there"
		case s.Digest != o.Digest:
			// With the digests, so that what is never twice the same ends differently each time.
			return fmt.Sprintf("%d bytes of region %d at 0x%x differ (%.8s, and %.8s there)", s.Length, s.Region, s.At, s.Digest, o.Digest)
		case !bytes.Equal(s.Bytes, o.Bytes):
			return fmt.Sprintf("region %d at 0x%x is %x, and %x there", s.Region, s.At, []byte(s.Bytes), []byte(o.Bytes))
		}
	}
	return ""
}

// exercise does what a guest would.
func exercise(d vfio.Device, list []compat.Access) error {
	for _, a := range list {
		if err := d.WriteRegion(a.Region, a.At, a.Write); err != nil {
			return fmt.Errorf("write region %d at 0x%x: %w", a.Region, a.At, err)
		}
	}
	return nil
}
