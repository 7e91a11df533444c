// SPDX-License-Identifier: Apache-2.0

package mdev

import (
	"cmp"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"kindred/host/tree"
	"kindred/inventory"
)

// Devices reads every device, in the order of their parents and UUIDs.
// listed is false when there may be more.
func Devices(d tree.Dir, detail Detail, warn tree.Warn) (list []inventory.Device, listed bool) {
	return DevicesNamed(d, nil, detail, warn)
}

// DevicesNamed is Devices for some of them.
func DevicesNamed(d tree.Dir, named Named, detail Detail, warn tree.Warn) (list []inventory.Device, listed bool) {
	entries, err := tree.List(d, devicesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, true
	}
	if err != nil {
		warn(devicesDir, err)
		return nil, false
	}
	entries = named.of(entries)
	families, found := find(d, entries, warn)
	devices := make([]inventory.Device, found)
	start := make([]int, len(families))
	for i := 1; i < len(families); i++ {
		start[i] = start[i-1] + len(families[i-1].children)
	}
	each(len(families), 1, func(i int) {
		readChildren(d, families[i], devices[start[i]:], detail, warn)
	})
	return devices, found == len(entries)
}

// family are the devices of one parent.
type family struct {
	dir, parent string
	children    []child
}

// child is a device: the name of its link on the bus, and of its directory in
// its parent's.
type child struct{ id, name string }

// find resolves the links of the bus. Families are in the inventory's order,
// their children are not yet.
func find(d tree.Dir, entries []tree.Entry, warn tree.Warn) (families []*family, found int) {
	bus, err := d.Sub(devicesDir)
	if err != nil {
		warn(devicesDir, err)
		return nil, 0
	}
	defer bus.Close()
	links := make([]string, len(entries))
	each(len(entries), 64, func(i int) {
		text, err := bus.Readlink(entries[i].Name)
		if err != nil {
			warn(devicesDir+"/"+entries[i].Name, err)
		}
		links[i] = text
	})
	byDir := make(map[string]*family)
	byLink := make(map[string]*family) // by a link's text up to the last slash
	for i, link := range links {
		if link == "" {
			continue
		}
		found++
		above, name := path.Split(link)
		f := byLink[above]
		if f == nil || name == "" || name == "." || name == ".." {
			dir := tree.Resolve(devicesDir, link)
			name = path.Base(dir)
			dir = path.Dir(dir)
			if f = byDir[dir]; f == nil {
				f = &family{dir: dir, parent: path.Base(dir)}
				byDir[dir] = f
				families = append(families, f)
			}
			if strings.HasSuffix(link, "/"+name) {
				byLink[above] = f
			}
		}
		f.children = append(f.children, child{entries[i].Name, name})
	}
	slices.SortFunc(families, func(a, b *family) int {
		return cmp.Or(cmp.Compare(a.parent, b.parent), cmp.Compare(a.dir, b.dir))
	})
	return families, found
}

// readChildren fills in the devices of one parent. What their types can be
// named after is read of the parent, once, and its bus or class only where the
// driver is not it.
func readChildren(d tree.Dir, f *family, devices []inventory.Device, detail Detail, warn tree.Warn) {
	slices.SortFunc(f.children, func(a, b child) int { return cmp.Compare(a.id, b.id) })
	for i, c := range f.children {
		dev := &devices[i]
		dev.ID, dev.Kind, dev.Parent, dev.InUse = c.id, inventory.Mdev, f.parent, inventory.Unknown
	}
	sub, err := d.Sub(f.dir)
	if err != nil {
		for _, c := range f.children {
			warn(path.Join(f.dir, c.name, "mdev_type"), err)
		}
		return
	}
	defer sub.Close()
	within := func(file string, err error) { warn(path.Join(f.dir, file), err) }
	driver := tree.LinkBase(sub, "driver", within).Text()
	var subsystem inventory.Value
	for i, c := range f.children {
		dev := &devices[i]
		link := c.name + "/mdev_type"
		text, err := sub.Readlink(link)
		if err == nil {
			dev.Type, err = splitType(path.Base(text), driver, subsystem.Text())
			if err != nil && subsystem.State() == inventory.NotObserved {
				subsystem = tree.LinkBase(sub, "subsystem", within)
				dev.Type, err = splitType(path.Base(text), driver, subsystem.Text())
			}
		}
		if err != nil {
			// Between device_add() and sysfs_create_link() in mdev_core.c, or
			// while it is being removed, a device has no type.
			within(link, err)
		}
		if detail == Full {
			readDevice(d, dev, path.Join(f.dir, c.name), warn)
		}
	}
}

// readDevice reads the device's own directory.
func readDevice(d tree.Dir, dev *inventory.Device, dir string, warn tree.Warn) {
	sub, err := d.Sub(dir)
	if err != nil {
		warn(dir, err)
		return
	}
	defer sub.Close()
	within := func(file string, err error) { warn(path.Join(dir, file), err) }
	dev.Driver = tree.LinkBase(sub, "driver", within)
	dev.Group = tree.LinkBase(sub, "iommu_group", within)
	dev.Node = inventory.None()
	switch nodes, err := sub.ReadDir("vfio-dev"); {
	case err == nil && len(nodes) > 0:
		dev.Node = inventory.Of(nodes[0].Name)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		within("vfio-dev", err)
		dev.Node = inventory.Value{}
	}
	dev.Attributes = tree.Attributes(sub, ".", standardDevice, within)
}

// standardDevice names what every mdev has; the rest is the vendor's.
func standardDevice(name string) bool {
	switch name {
	case "driver", "iommu_group", "mdev_type", "power", "remove", "subsystem", "uevent", "vfio-dev", "waiting_for_supplier":
		return true
	}
	return false
}
