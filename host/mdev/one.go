// SPDX-License-Identifier: Apache-2.0

package mdev

import (
	"path"

	"kindred/host/tree"
	"kindred/inventory"
)

// Dir is the device's directory.
func Dir(uuid string) string { return path.Join(devicesDir, uuid) }

// Offers reports whether the parent offers the type, by its full name.
func Offers(d tree.Dir, parent, typ string) bool {
	if !tree.Single(parent) || !tree.Single(typ) {
		return false
	}
	_, err := d.Mode(path.Join(classDir, parent, typesDir, typ))
	return err == nil
}

// Find reads the one device of that UUID, in lower case, as [Devices] would
// list it.
func Find(d tree.Dir, uuid string) (inventory.Device, bool) {
	if !tree.Single(uuid) {
		return inventory.Device{}, false
	}
	return one(d, uuid, Brief)
}

// Read reads the device and its type completely. What cannot be read is not
// observed.
func Read(d tree.Dir, uuid string) (inventory.Device, inventory.Type, bool) {
	dev, ok := one(d, uuid, Full)
	if !ok {
		return dev, inventory.Type{}, false
	}
	name := TypeDir(dev.Type)
	types, err := d.Sub(path.Join(classDir, dev.Parent, typesDir))
	if err != nil {
		return dev, inventory.Type{TypeName: dev.Type}, true
	}
	defer types.Close()
	return dev, readType(types, name, dev.Type, inventory.Value{}, Full, ignore), true
}

func one(d tree.Dir, uuid string, detail Detail) (inventory.Device, bool) {
	target, err := tree.Target(d, Dir(uuid))
	if err != nil {
		return inventory.Device{}, false
	}
	dir := path.Dir(target)
	var devices [1]inventory.Device
	readChildren(d, &family{dir, path.Base(dir), []child{{uuid, path.Base(target)}}}, devices[:], detail, ignore)
	return devices[0], true
}

func ignore(string, error) {}
