// SPDX-License-Identifier: Apache-2.0

//go:build linux

package raw

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// UUID is the n-th of a series that only these programs use.
func UUID(n int) string { return fmt.Sprintf("6b647800-0000-4000-8000-%012x", n) }

// Type is a type directory of a parent.
type Type struct {
	Dir  string
	Name string // as the driver calls it, without the namespace
}

// Types lists the types of the parents of a module: those whose driver is this
// namespace, one parent only.
func Types(namespace string) ([]Type, error) {
	dirs, err := filepath.Glob("/sys/class/mdev_bus/*/mdev_supported_types/" + namespace + "-*")
	if err != nil {
		return nil, err
	}
	var types []Type
	seen := map[string]bool{}
	for _, dir := range dirs {
		id := filepath.Base(dir)
		if !seen[id] {
			seen[id] = true
			types = append(types, Type{dir, strings.TrimPrefix(id, namespace+"-")})
		}
	}
	return types, nil
}

// Create makes a device.
func (t Type) Create(uuid string) error { return write(t.Dir+"/create", uuid) }

// Remove removes a device.
func Remove(uuid string) error { return write("/sys/bus/mdev/devices/"+uuid+"/remove", "1") }

// write is one system call, without what os.WriteFile adds.
func write(file, text string) error {
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// Load loads a module from a file.
func Load(file, params string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), params, 0); err != nil {
		return fmt.Errorf("loading %s %s: %w", filepath.Base(file), params, err)
	}
	return nil
}

// Unload unloads a module. It does not wait for its users.
func Unload(name string) error {
	if err := unix.DeleteModule(name, unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("unloading %s: %w", name, err)
	}
	return nil
}
