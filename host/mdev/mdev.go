// SPDX-License-Identifier: Apache-2.0

// Package mdev is the mediated-device bus: it reads the parents that registered
// with it, the types they offer and the devices that were created, and creates
// and removes devices.
//
// The interface is Documentation/ABI/testing/sysfs-bus-vfio-mdev and, where it
// is silent, drivers/vfio/mdev/mdev_sysfs.c. Parents are the links of
// /sys/class/mdev_bus, devices those of /sys/bus/mdev/devices. A type's
// directory is named <namespace>-<name>, where the namespace is what
// dev_driver_string() (drivers/base/core.c) returned when the parent
// registered: its driver, else its bus, else its class.
//
// A parent, type or attribute that cannot be read is told to warn with its
// path and leaves the others alone. Changes go through a [tree.Machine]; their
// errors are of one type, [Error], which says what to do about them.
package mdev

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"kindred/host/pci"
	"kindred/host/tree"
	"kindred/inventory"
)

const (
	classDir   = "sys/class/mdev_bus"
	devicesDir = "sys/bus/mdev/devices"
	typesDir   = "mdev_supported_types"
)

// Detail is how much is read of each object. Reads go to the driver, so a
// listing reads only what it shows.
type Detail int

const (
	Brief     Detail = iota // names, labels, API and room
	Described               // and the types' descriptions
	Full                    // everything
)

// ErrNamespace is what a warning wraps about a type whose namespace is unknown:
// its directory's name is its name then.
var ErrNamespace = errors.New("the namespace is unknown")

// Named chooses by name what is read: nil is everything.
type Named func(name string) bool

func (n Named) of(entries []tree.Entry) []tree.Entry {
	if n == nil {
		return entries
	}
	return slices.DeleteFunc(entries, func(e tree.Entry) bool { return !n(e.Name) })
}

// Parents reads every parent with its types, in the order of their names.
// A machine without the bus has none. listed is false when there may be more.
func Parents(d tree.Dir, detail Detail, warn tree.Warn) (list []inventory.Parent, listed bool) {
	return ParentsNamed(d, nil, detail, warn)
}

// ParentsNamed is Parents for some of them.
func ParentsNamed(d tree.Dir, named Named, detail Detail, warn tree.Warn) (list []inventory.Parent, listed bool) {
	entries, err := d.ReadDir(classDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, true
	}
	if err != nil {
		warn(classDir, err)
		return nil, false
	}
	entries = named.of(entries)
	oneAPI := detail < Full && apiOfParent(d)
	parents := make([]*inventory.Parent, len(entries))
	each(len(entries), 1, func(i int) {
		parents[i] = readParent(d, entries[i].Name, detail, oneAPI, warn)
	})
	return keep(parents), true
}

// Names are the names of the parents that can be listed.
func Names(d tree.Dir) map[string]bool {
	entries, _ := tree.List(d, classDir) // who reads the parents warns
	names := make(map[string]bool, len(entries))
	for _, e := range entries {
		names[e.Name] = true
	}
	return names
}

// apiOfParent reports whether the kernel prints one device API for all types of
// a parent: since Linux 6.1, device_api_show() in mdev_sysfs.c prints that of
// the parent's mdev driver, so that a listing needs to read it only once.
func apiOfParent(d tree.Dir) bool {
	release, err := tree.FileText(d, "proc/sys/kernel/osrelease")
	if err != nil {
		return false
	}
	var major, minor int
	_, err = fmt.Sscanf(release, "%d.%d", &major, &minor)
	return err == nil && (major > 6 || major == 6 && minor >= 1)
}

// readParent reads one parent. One that cannot be reached is listed with its
// types unread: they may be what somebody looks for.
func readParent(d tree.Dir, name string, detail Detail, oneAPI bool, warn tree.Warn) *inventory.Parent {
	link := path.Join(classDir, name)
	dir, err := tree.Target(d, link)
	if err != nil {
		warn(link, err)
		return &inventory.Parent{Name: name, Kind: inventory.MdevParent, TypesUnread: true}
	}
	sub, err := d.Sub(dir)
	if err != nil {
		warn(link, fmt.Errorf("the parent's directory: %w", err))
		return &inventory.Parent{Name: name, Path: dir, Kind: inventory.MdevParent, TypesUnread: true}
	}
	defer sub.Close()
	within := func(file string, err error) { warn(path.Join(dir, file), err) }

	p := &inventory.Parent{Name: name, Path: dir, Kind: inventory.MdevParent}
	p.Driver = tree.LinkBase(sub, "driver", within)
	p.Namespace = p.Driver.Text()
	var subsystem inventory.Value // bus or class; a listing needs it only without a driver
	if detail == Full || p.Namespace == "" {
		subsystem = tree.LinkBase(sub, "subsystem", within)
	}
	if p.Namespace == "" {
		p.Namespace = subsystem.Text()
	}
	if detail == Full {
		p.NUMANode = tree.ReadValue(sub, "numa_node", within)
		p.Group = tree.LinkBase(sub, "iommu_group", within)
		if subsystem.Text() == "pci" {
			p.PCI = pci.Read(d, dir, warn)
		}
		p.Attributes = parentAttributes(sub, p.Driver.Text(), within)
	}
	types, err := sub.Sub(typesDir)
	if err != nil {
		within(typesDir, err)
		p.TypesUnread = true
		return p
	}
	defer types.Close()
	entries, err := types.ReadDir(".")
	if err != nil {
		within(typesDir, err)
		p.TypesUnread = true
		return p
	}
	below := func(file string, err error) { within(path.Join(typesDir, file), err) }
	p.Types = make([]inventory.Type, 0, len(entries))
	var api inventory.Value // known for the whole parent
	for _, e := range entries {
		typeName, err := splitType(e.Name, p.Driver.Text(), subsystem.Text())
		if err != nil && subsystem.State() == inventory.NotObserved {
			subsystem = tree.LinkBase(sub, "subsystem", within)
			typeName, err = splitType(e.Name, p.Driver.Text(), subsystem.Text())
		}
		if err != nil {
			within(path.Join(typesDir, e.Name), err)
		}
		if typeName.Namespace != "" && typeName.Namespace != p.Namespace {
			p.Namespace = typeName.Namespace // the parent registered before its driver changed
		}
		t := readType(types, e.Name, typeName, api, detail, below)
		if oneAPI {
			api = t.DeviceAPI
		}
		p.Types = append(p.Types, t)
	}
	return p
}

// splitType takes the namespace off a type's directory name. It is one of the
// names that dev_driver_string() can have returned; any other leaves the
// namespace empty, with an error.
func splitType(dir string, driver, subsystem string) (inventory.TypeName, error) {
	for _, namespace := range []string{driver, subsystem} {
		if name, ok := strings.CutPrefix(dir, namespace+"-"); ok && namespace != "" && name != "" {
			return inventory.TypeName{Namespace: namespace, Name: name}, nil
		}
	}
	return inventory.TypeName{Name: dir}, fmt.Errorf("%w: the name starts neither with the driver %q nor with the bus or class %q", ErrNamespace, driver, subsystem)
}

// TypeDir is the name of the type's directory: its full name, or all of its name
// where the namespace is unknown.
func TypeDir(t inventory.TypeName) string {
	if t.Namespace == "" {
		return t.Name
	}
	return t.Full()
}

// readType reads one type. An api that is present need not be read again.
func readType(types tree.Dir, dir string, name inventory.TypeName, api inventory.Value, detail Detail, warn tree.Warn) inventory.Type {
	t := inventory.Type{
		TypeName:  name,
		Label:     required(types, dir+"/name", warn),
		DeviceAPI: api,
		Creatable: inventory.Unknown,
		ListedBy:  inventory.ListedByKernel,
	}
	if api.State() != inventory.Present {
		t.DeviceAPI = required(types, dir+"/device_api", warn)
	}
	if text, ok := required(types, dir+"/available_instances", warn).Get(); ok {
		if n, err := strconv.ParseUint(text, 10, 32); err != nil {
			warn(dir+"/available_instances", fmt.Errorf("%q is not a count", text))
		} else {
			available := int(n)
			t.Available = &available
			t.Creatable = inventory.No
			if available > 0 {
				t.Creatable = inventory.Yes
			}
		}
	}
	if detail >= Described {
		t.Description = tree.ReadValue(types, dir+"/description", warn)
	}
	if detail == Full {
		t.Attributes = tree.Attributes(types, dir, standardType, warn)
	}
	return t
}

// required reads an attribute that every type has.
func required(d tree.Dir, name string, warn tree.Warn) inventory.Value {
	v := tree.ReadValue(d, name, warn)
	if v.State() == inventory.Absent {
		warn(name, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist})
		return inventory.Value{}
	}
	return v
}

// standardType names what every type directory has (mdev_sysfs.c); the rest is
// the vendor's.
func standardType(name string) bool {
	switch name {
	case "create", "name", "device_api", "available_instances", "description", "devices":
		return true
	}
	return false
}

// each calls do(0) … do(n-1) on as many goroutines as there are processors,
// which take that many at once: the time is spent in system calls, one after
// the other.
func each(n, atOnce int, do func(i int)) {
	workers := min(runtime.GOMAXPROCS(0), (n+atOnce-1)/atOnce)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				end := int(next.Add(int64(atOnce)))
				for i := end - atOnce; i < min(end, n); i++ {
					do(i)
				}
				if end >= n {
					return
				}
			}
		})
	}
	wg.Wait()
}

// keep drops what could not be read at all.
func keep[T any](list []*T) []T {
	kept := make([]T, 0, len(list))
	for _, item := range list {
		if item != nil {
			kept = append(kept, *item)
		}
	}
	return kept
}
