// SPDX-License-Identifier: Apache-2.0

// Package reading holds the two things whose time is compared in one process:
// Kindred's reading of a host, and a bare loop over the same files.
package reading

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"kindred/host"
)

// What is read.
type What int

const (
	Types What = iota
	Devices
)

func (w What) String() string { return [...]string{"types", "devices"}[w] }

// Kindred reads the machine below root as kindred type list or device list
// does, and returns how many there are.
func Kindred(root string, what What) (int, error) {
	h, err := host.Open(root)
	if err != nil {
		return 0, err
	}
	defer h.Close()
	inv := h.List(what == Types, what == Devices)
	n := len(inv.Devices)
	for i := range inv.Parents {
		n += len(inv.Parents[i].Types)
	}
	return n, nil
}

// Bare is the loop: the files, links and directories that Kindred's listing
// reads, each opened, read and closed, by absolute path, into one buffer. A
// link is read by one system call. Nothing is kept, checked or sorted.
type Bare struct {
	files, links, dirs []string
}

// Prepare finds below root what a listing reads. Of types: each one's name and
// room, and each parent's API, list of types and links in the class and to its
// driver. Of devices: each one's link on the bus and link to its type, and each
// parent's to its driver. Of both: the lists of parents and of PCI functions;
// of functions that are no parents a listing would read more.
func Prepare(root string, what What) (*Bare, error) {
	const parent = "sys/devices/pci*/*/"
	links := []string{parent + "driver"}
	dirs := []string{"sys/bus/pci/devices", "sys/class/mdev_bus"}
	var files []string
	if what == Types {
		links = append(links, "sys/class/mdev_bus/*")
		dirs = append(dirs, parent+"mdev_supported_types")
		files = []string{parent + "mdev_supported_types/*/name", parent + "mdev_supported_types/*/available_instances", parent + "mdev_supported_types/nvidia-600/device_api"}
	} else {
		links = append(links, "sys/bus/mdev/devices/*", parent+"*/mdev_type")
		dirs = append(dirs, "sys/bus/mdev/devices")
	}
	find := func(patterns []string) (found []string, err error) {
		for _, pattern := range patterns {
			list, err := filepath.Glob(filepath.Join(root, pattern))
			if err != nil {
				return nil, fmt.Errorf("find the files of %v below %s: %w", what, root, err)
			}
			found = append(found, list...)
		}
		slices.Sort(found)
		return found, nil
	}
	var b Bare
	var errs [3]error
	b.files, errs[0] = find(files)
	b.links, errs[1] = find(links)
	b.dirs, errs[2] = find(dirs)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	if len(b.links) <= 3 {
		return nil, fmt.Errorf("there are no %v below %s: it is no synthetic tree", what, root)
	}
	return &b, nil
}

// Run runs the loop, on as many threads as Go uses at once.
func (b *Bare) Run() error {
	workers := runtime.GOMAXPROCS(0)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			part := func(list []string) []string { return list[len(list)*w/workers : len(list)*(w+1)/workers] }
			errs[w] = loop(part(b.files), part(b.links), part(b.dirs))
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func loop(files, links, dirs []string) error {
	buf := make([]byte, 16<<10)
	for _, name := range files {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", name, err)
		}
		if _, err := unix.Read(fd, buf); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if err := unix.Close(fd); err != nil {
			return fmt.Errorf("close %s: %w", name, err)
		}
	}
	for _, name := range dirs {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", name, err)
		}
		for n := 1; n > 0; {
			if n, err = unix.Getdents(fd, buf); err != nil {
				return fmt.Errorf("list %s: %w", name, err)
			}
		}
		if err := unix.Close(fd); err != nil {
			return fmt.Errorf("close %s: %w", name, err)
		}
	}
	for _, name := range links {
		if _, err := unix.Readlink(name, buf); err != nil {
			return fmt.Errorf("read the link %s: %w", name, err)
		}
	}
	return nil
}
