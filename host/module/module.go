// SPDX-License-Identifier: Apache-2.0

// Package module reads what identifies the code of kernel modules: version,
// source version, ELF build-id and parameters, from /sys/module.
//
// The build-id is the best of them: every module has one
// (notes/.note.gnu.build-id), and equal build-ids mean equal code. version is
// hardly ever bumped and srcversion often not built. For code that is part of
// the kernel image the kernel's own build-id counts, from /sys/kernel/notes.
// Sources: kernel/module/sysfs.c, kernel/params.c, kernel/ksysfs.c.
package module

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"kindred/host/tree"
	"kindred/inventory"
)

const modulesDir = "sys/module"

// KernelBuildID is the build-id of the running kernel's image.
func KernelBuildID(d tree.Dir, warn tree.Warn) inventory.Value {
	return buildID(d, "sys/kernel/notes", warn)
}

// Exists reports whether the module is loaded or built in.
func Exists(d tree.Dir, name string) bool {
	_, err := d.Mode(path.Join(modulesDir, name))
	return err == nil
}

// Read reads the named module. kernel is the kernel's build-id.
func Read(d tree.Dir, name string, kernel inventory.Value, warn tree.Warn) inventory.Module {
	dir := path.Join(modulesDir, name)
	m := inventory.Module{
		Name:       name,
		Version:    tree.ReadValue(d, path.Join(dir, "version"), warn),
		SrcVersion: tree.ReadValue(d, path.Join(dir, "srcversion"), warn),
		Taint:      tree.ReadValue(d, path.Join(dir, "taint"), warn),
	}
	// A loaded module has initstate; for built-in code the directory holds
	// only parameters and a version (kernel/params.c).
	if _, err := d.Mode(path.Join(dir, "initstate")); errors.Is(err, fs.ErrNotExist) {
		m.BuiltIn = true
		m.BuildID = kernel
	} else {
		m.BuildID = buildID(d, path.Join(dir, "notes/.note.gnu.build-id"), warn)
	}
	params := path.Join(dir, "parameters")
	if _, err := d.Mode(params); errors.Is(err, fs.ErrNotExist) {
		m.Parameters = inventory.Attributes{Complete: true}
	} else {
		m.Parameters = tree.Attributes(d, params, func(string) bool { return false }, warn)
	}
	return m
}

// VFIO lists the modules that use VFIO or the mdev bus, through any number of
// others: the ones that can be between a guest and its device.
func VFIO(d tree.Dir, warn tree.Warn) []string {
	var names []string
	seen := make(map[string]bool)
	queue := []string{"vfio", "mdev", "vfio_pci_core"}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		if seen[name] || !Exists(d, name) {
			continue
		}
		seen[name] = true
		names = append(names, name)
		dir := path.Join(modulesDir, name, "holders")
		holders, err := d.ReadDir(dir)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) { // built-in code has no holders
				warn(dir, err)
			}
			continue
		}
		for _, h := range holders {
			queue = append(queue, h.Name)
		}
	}
	return names
}

// OfDriver is the module behind the driver link in dir; absent for built-in
// drivers and where no driver is bound.
func OfDriver(d tree.Dir, dir string, warn tree.Warn) inventory.Value {
	return tree.LinkBase(d, path.Join(dir, "driver", "module"), warn)
}

func buildID(d tree.Dir, name string, warn tree.Warn) inventory.Value {
	data, err := d.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return inventory.None()
	}
	if err != nil {
		warn(name, err)
		return inventory.Value{}
	}
	id, err := ParseBuildID(data)
	if err != nil {
		warn(name, err)
		return inventory.Value{}
	}
	return inventory.Of(id)
}

// ParseBuildID finds the GNU build-id among ELF notes and returns it in
// hexadecimal. A note is three 32-bit words (length of the name, length of the
// description, type), then both, each padded to four bytes (elf(5)); the
// byte order is tried both ways, because a copied tree can come from another
// machine.
func ParseBuildID(notes []byte) (string, error) {
	id, err := parseBuildID(notes, binary.LittleEndian)
	if err != nil {
		if big, bigErr := parseBuildID(notes, binary.BigEndian); bigErr == nil {
			return big, nil
		}
	}
	return id, err
}

func parseBuildID(notes []byte, order binary.ByteOrder) (string, error) {
	const ntGNUBuildID = 3
	for len(notes) >= 12 {
		nameLen, descLen, kind := uint64(order.Uint32(notes)), uint64(order.Uint32(notes[4:])), order.Uint32(notes[8:])
		notes = notes[12:]
		namePad, descPad := (nameLen+3)&^3, (descLen+3)&^3
		if namePad+descLen > uint64(len(notes)) {
			return "", fmt.Errorf("an ELF note of %d and %d bytes in %d", nameLen, descLen, len(notes))
		}
		name := strings.TrimRight(string(notes[:nameLen]), "\x00")
		desc := notes[namePad : namePad+descLen]
		if name == "GNU" && kind == ntGNUBuildID && descLen > 0 {
			return hex.EncodeToString(desc), nil
		}
		notes = notes[min(namePad+descPad, uint64(len(notes))):]
	}
	return "", errors.New("no GNU build-id among the ELF notes")
}
