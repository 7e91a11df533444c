// SPDX-License-Identifier: Apache-2.0

package nvidia

import (
	"encoding/xml"
	"fmt"
	"strconv"

	"kindred/inventory"
)

// ConfigFile is where NVIDIA's vGPU manager installs its list of types.
const ConfigFile = "usr/share/nvidia/vgpu/vgpuConfig.xml"

// Config is what vgpuConfig.xml says of types and of the cards that have them.
type Config struct {
	Types []struct {
		ID   number `xml:"id,attr"`
		Name string `xml:"name,attr"`
	} `xml:"vgpuType"`
	Cards []struct {
		Device struct {
			Vendor    number `xml:"vendorId,attr"`
			Device    number `xml:"deviceId,attr"`
			SubVendor number `xml:"subsystemVendorId,attr"`
			SubDevice number `xml:"subsystemId,attr"` // 0: any
		} `xml:"devId"`
		Supported []struct {
			ID number `xml:"vgpuId,attr"`
		} `xml:"supportedVgpu"`
	} `xml:"pgpu"`
}

// number is decimal, or hexadecimal with 0x.
type number uint64

func (n *number) UnmarshalXMLAttr(attr xml.Attr) error {
	v, err := strconv.ParseUint(attr.Value, 0, 32)
	if err != nil {
		return fmt.Errorf("%s=%q is not a number", attr.Name.Local, attr.Value)
	}
	*n = number(v)
	return nil
}

// ParseConfig reads vgpuConfig.xml.
func ParseConfig(data []byte) (*Config, error) {
	c := new(Config)
	if err := xml.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("not the expected XML: %w", err)
	}
	return c, nil
}

// supported lists the types of the card; an entry for its exact subsystem wins
// over one for any.
func (c *Config) supported(card *inventory.PCI) []Entry {
	if card == nil {
		return nil
	}
	labels := make(map[number]string, len(c.Types))
	for _, t := range c.Types {
		labels[t.ID] = t.Name
	}
	vendor, device, sub := pciNumber(card.Vendor), pciNumber(card.Device), pciNumber(card.SubsystemDevice)
	best := -1
	for i := range c.Cards {
		id := c.Cards[i].Device
		if vendor == nil || device == nil || sub == nil || id.Vendor != *vendor || id.Device != *device {
			continue
		}
		if id.SubDevice == *sub {
			best = i
			break
		}
		if id.SubDevice == 0 && best < 0 {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	var entries []Entry
	for _, s := range c.Cards[best].Supported {
		if label := labels[s.ID]; label != "" {
			entries = append(entries, Entry{strconv.FormatUint(uint64(s.ID), 10), label})
		}
	}
	return entries
}

func pciNumber(v inventory.Value) *number {
	text, ok := v.Get()
	if !ok {
		return nil
	}
	n, err := strconv.ParseUint(text, 0, 32)
	if err != nil {
		return nil
	}
	return new(number(n))
}
