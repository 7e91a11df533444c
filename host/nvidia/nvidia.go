// SPDX-License-Identifier: Apache-2.0

// Package nvidia reads NVIDIA's vendor-specific VFIO (kernels 6.8 and newer):
// an SR-IOV virtual function becomes a vGPU when a type's number is written to
// its nvidia/current_vgpu_type, and there is no mdev.
//
// Three sets are kept apart. What a card supports is what its functions list
// while they are free, or vgpuConfig.xml, or what was remembered from when the
// card was idle: a full card lists nothing. What can be created now is what a
// free function lists. What is in use is each function's current type. Type
// numbers are local to a card; the label names the interface.
package nvidia

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"kindred/host/pci"
	"kindred/host/tree"
	"kindred/inventory"
)

// Namespace is the driver's name, as in the mdev era (nvidia-63).
const Namespace = "nvidia"

// IsFunction reports whether the bound PCI function is one that takes a vGPU
// type. It stays with NVIDIA's driver, whatever type it has.
func IsFunction(d tree.Dir, b pci.Bound) bool {
	if b.Driver != Namespace {
		return false
	}
	_, err := d.Mode(path.Join(pci.Devices, b.Address, "nvidia", "current_vgpu_type"))
	return err == nil
}

// Read lists the cards of the functions, which IsFunction tells, as parents and
// the functions that have a type as devices. Cards whose list is empty are completed from
// vgpuConfig.xml.
func Read(d tree.Dir, functions []pci.Bound, warn tree.Warn) ([]inventory.Parent, []inventory.Device) {
	var parents []inventory.Parent
	var devices []inventory.Device
	byName := make(map[string]int)
	for _, b := range functions {
		dir, err := tree.Target(d, path.Join(pci.Devices, b.Address))
		if err != nil {
			warn(path.Join(pci.Devices, b.Address), err)
			continue
		}
		vf := pci.Read(d, dir, warn)
		card, isVF := vf.PF.Get()
		if !isVF {
			card = b.Address
		}
		i, known := byName[card]
		if !known {
			i = len(parents)
			byName[card] = i
			parents = append(parents, readCard(d, card, warn))
		}
		if dev := readFunction(d, dir, vf, &parents[i], warn); dev != nil {
			devices = append(devices, *dev)
		}
	}
	for i := range parents {
		shareRoom(&parents[i])
	}
	if len(parents) > 0 {
		complete(d, parents, warn)
		nameInstances(parents, devices)
		for i := range parents {
			if parents[i].TypesUnread {
				openRoom(&parents[i])
			}
		}
	}
	return parents, devices
}

func readCard(d tree.Dir, address string, warn tree.Warn) inventory.Parent {
	p := inventory.Parent{Name: address, Kind: inventory.VGPUParent, Namespace: Namespace}
	dir, err := tree.Target(d, path.Join(pci.Devices, address))
	if err != nil {
		warn(path.Join(pci.Devices, address), err)
		return p
	}
	p.Path = dir
	p.Driver = tree.LinkBase(d, path.Join(dir, "driver"), warn)
	p.PCI = pci.Read(d, dir, warn)
	p.NUMANode = tree.ReadValue(d, path.Join(dir, "numa_node"), warn)
	p.Group = tree.LinkBase(d, path.Join(dir, "iommu_group"), warn)
	return p
}

// readFunction adds what one function lists to its card, and returns it as a
// device when it has a type. What it does not tell may be a type that the card
// offers, or an instance: the card's list is not whole then.
func readFunction(d tree.Dir, dir string, vf *inventory.PCI, card *inventory.Parent, warn tree.Warn) *inventory.Device {
	name := path.Join(dir, "nvidia", "current_vgpu_type")
	current, err := tree.Text(d, name)
	if err != nil {
		warn(name, err)
		card.TypesUnread = true
		return nil
	}
	if _, err := strconv.ParseUint(current, 10, 32); err != nil {
		warn(name, fmt.Errorf("%q is not a type's number", current))
		card.TypesUnread = true
		return nil
	}
	name = path.Join(dir, "nvidia", "creatable_vgpu_types")
	text, err := tree.Text(d, name)
	if err != nil {
		warn(name, err)
		card.TypesUnread = true
	}
	list, err := ParseCreatable(text)
	if err != nil {
		warn(name, err)
		card.TypesUnread = true
	}
	for _, entry := range list {
		t := listed(card, entry)
		if current == "0" {
			*t.Available++
			t.Creatable = inventory.Yes
		}
	}
	if current == "0" {
		return nil
	}
	dev := &inventory.Device{
		ID: vf.Address, Kind: inventory.VGPU, Parent: card.Name, PCI: vf, InUse: inventory.Unknown,
		Type:   inventory.TypeName{Namespace: Namespace, Name: current},
		Driver: tree.LinkBase(d, path.Join(dir, "driver"), warn),
		Group:  tree.LinkBase(d, path.Join(dir, "iommu_group"), warn),
		Node:   inventory.None(),
	}
	switch nodes, err := d.ReadDir(path.Join(dir, "vfio-dev")); {
	case err == nil && len(nodes) > 0:
		dev.Node = inventory.Of(nodes[0].Name)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		warn(path.Join(dir, "vfio-dev"), err)
		dev.Node = inventory.Value{}
	}
	dev.Attributes = tree.Attributes(d, path.Join(dir, "nvidia"), func(name string) bool {
		return name == "creatable_vgpu_types" || name == "current_vgpu_type"
	}, warn)
	return dev
}

// shareRoom leaves open how many more of a type a card has room for when
// several free functions list it: they share the card's memory.
func shareRoom(card *inventory.Parent) {
	for i := range card.Types {
		if t := &card.Types[i]; t.Available != nil && *t.Available > 1 {
			t.Available = nil
		}
	}
}

// openRoom leaves open how much room there is on a card one of whose functions
// could not be read: that function may have room too.
func openRoom(card *inventory.Parent) {
	for i := range card.Types {
		t := &card.Types[i]
		t.Available = nil
		if t.Creatable == inventory.No {
			t.Creatable = inventory.Unknown
		}
	}
}

// listed returns the card's type of that number, new with no room.
func listed(card *inventory.Parent, entry Entry) *inventory.Type {
	name := inventory.TypeName{Namespace: Namespace, Name: entry.Number}
	if t := card.Type(name); t != nil {
		return t
	}
	card.Types = append(card.Types, inventory.Type{
		TypeName: name, Label: inventory.Of(entry.Label), DeviceAPI: inventory.Of("vfio-pci"),
		Available: new(int), Creatable: inventory.No, ListedBy: inventory.ListedByKernel,
		Attributes: inventory.Attributes{Complete: true},
	})
	return &card.Types[len(card.Types)-1]
}

// nameInstances makes sure that every type in use is listed, at least as such.
func nameInstances(parents []inventory.Parent, devices []inventory.Device) {
	for i := range devices {
		for j := range parents {
			if parents[j].Name == devices[i].Parent && parents[j].Type(devices[i].Type) == nil {
				parents[j].Types = append(parents[j].Types, inventory.Type{
					TypeName: devices[i].Type, DeviceAPI: inventory.Of("vfio-pci"),
					Available: new(int), Creatable: inventory.No, ListedBy: inventory.ListedByDevice,
				})
			}
		}
	}
}

// Entry is one line of creatable_vgpu_types.
type Entry struct{ Number, Label string }

// ParseCreatable reads the text of creatable_vgpu_types: a header, then a line
// "<number> : <label>" per type. A full card shows the header alone.
func ParseCreatable(text string) ([]Entry, error) {
	var entries []Entry
	for i, line := range strings.Split(text, "\n") {
		number, label, ok := strings.Cut(line, ":")
		number, label = strings.TrimSpace(number), strings.TrimSpace(label)
		switch {
		case strings.TrimSpace(line) == "" || i == 0 && number == "ID":
			continue
		case !ok || label == "":
			return entries, fmt.Errorf("line %d: %q is not a number and a label", i+1, line)
		}
		if _, err := strconv.ParseUint(number, 10, 32); err != nil || number == "0" {
			return entries, fmt.Errorf("line %d: %q is not a type's number", i+1, number)
		}
		entries = append(entries, Entry{number, label})
	}
	return entries, nil
}

// complete adds to each card the supported types that its functions do not
// list now, from NVIDIA's own configuration.
func complete(d tree.Dir, parents []inventory.Parent, warn tree.Warn) {
	data, err := d.ReadFile(ConfigFile)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			warn(ConfigFile, err)
		}
		return
	}
	config, err := ParseConfig(data)
	if err != nil {
		warn(ConfigFile, err)
		return
	}
	for i := range parents {
		for _, entry := range config.supported(parents[i].PCI) {
			name := inventory.TypeName{Namespace: Namespace, Name: entry.Number}
			if parents[i].Type(name) != nil {
				continue
			}
			t := listed(&parents[i], entry)
			t.ListedBy, t.ListedIn = inventory.ListedByConfig, ConfigFile
		}
	}
}
