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
	inv, err := h.List(what == Types, what == Devices)
	if err != nil {
		return 0, err
	}
	n := len(inv.Devices)
	for i := range inv.Parents {
		n += len(inv.Parents[i].Types)
	}
	return n, nil
}

// Bare is the loop: the files that a listing cannot do without, each opened,
// read and closed, by absolute path, into one buffer. Links are read, which is
// one system call. Nothing is listed, kept, checked or sorted.
type Bare struct {
	files, links []string
}

// Prepare finds the files below root: of each type its name, API and room; of
// each device its link on the bus and the link to its type.
func Prepare(root string, what What) (*Bare, error) {
	patterns := []string{"sys/bus/mdev/devices/*", "sys/devices/pci*/*/*/mdev_type"}
	if what == Types {
		const dir = "sys/devices/pci*/*/mdev_supported_types/*/"
		patterns = []string{dir + "name", dir + "device_api", dir + "available_instances"}
	}
	var found []string
	for _, pattern := range patterns {
		list, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, fmt.Errorf("find the files of %v below %s: %w", what, root, err)
		}
		found = append(found, list...)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("there are no %v below %s: it is no synthetic tree", what, root)
	}
	slices.Sort(found)
	if what == Types {
		return &Bare{files: found}, nil
	}
	return &Bare{links: found}, nil
}

// Run runs the loop, on as many threads as Go uses at once.
func (b *Bare) Run() error {
	workers := runtime.GOMAXPROCS(0)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			part := func(list []string) []string { return list[len(list)*w/workers : len(list)*(w+1)/workers] }
			errs[w] = loop(part(b.files), part(b.links))
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func loop(files, links []string) error {
	buf := make([]byte, 4096)
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
	for _, name := range links {
		if _, err := unix.Readlink(name, buf); err != nil {
			return fmt.Errorf("read the link %s: %w", name, err)
		}
	}
	return nil
}
