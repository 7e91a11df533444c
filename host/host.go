// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"kindred/host/devlink"
	"kindred/host/facts"
	"kindred/host/manager"
	"kindred/host/mdev"
	"kindred/host/module"
	"kindred/host/nvidia"
	"kindred/host/pci"
	"kindred/host/proc"
	"kindred/host/record"
	"kindred/host/tree"
	"kindred/host/vfio"
	"kindred/inventory"
)

// ErrNotAHost is returned by Open for a directory that holds no copy of a host.
var ErrNotAHost = errors.New("no sys directory: this is neither a host's root nor a copy of one")

// Host reads one machine.
type Host struct {
	root   string
	dir    tree.Dir
	live   bool // the running machine, not a copy
	origin inventory.Origin
}

// Open opens the machine whose root directory is root: "/" for this one, or a
// directory with a copy of a machine's /sys, /proc and /etc.
func Open(root string) (*Host, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open the host at %s: %w", root, err)
	}
	dir, err := tree.Open(abs)
	if err != nil {
		return nil, fmt.Errorf("open the host at %s: %w", root, err)
	}
	if mode, err := dir.Mode("sys"); err != nil || !mode.IsDir() {
		dir.Close()
		return nil, fmt.Errorf("open the host at %s: %w", root, ErrNotAHost)
	}
	h := &Host{root: abs, dir: dir, live: abs == "/", origin: inventory.FromTree}
	if h.live {
		h.origin = inventory.FromKernel
	}
	return h, nil
}

// Simulated is a machine that does not exist, behind dir. It is read with the
// same code as one that does, and its inventory says what it is.
func Simulated(dir tree.Dir) *Host {
	return &Host{root: "simulated", dir: dir, origin: inventory.FromSimulator}
}

// Close releases the root.
func (h *Host) Close() error { return h.dir.Close() }

// Options choose what Inventory does besides reading.
type Options struct {
	// Probe asks idle devices that Kindred made whether they can migrate, by
	// opening them.
	Probe bool
	// Modules are kernel modules to report besides the ones found to take
	// part: the ones that catalogs name.
	Modules []string
	// Managers are the VM managers' versions, where they are known from a moment
	// ago: to ask for them programs are run. nil: they are asked for.
	Managers *Managers
}

// Managers are the versions of the VM managers, as an inventory has them.
type Managers struct{ QEMU, Libvirt inventory.Value }

// Inventory reads everything.
func (h *Host) Inventory(ctx context.Context, opts Options) (*inventory.Inventory, error) {
	w := new(warnings)
	inv := h.start(w)
	inv.Host.OS = readOS(h.dir, w.add)
	inv.Host.Kernel = h.readKernel(w.add)

	h.scan(inv, w.add)
	h.modules(inv, opts.Modules, w.add)
	h.migration(inv, opts.Probe, w.add)
	if h.live {
		h.firmware(ctx, inv, w.add)
		if m := opts.Managers; m != nil {
			inv.Host.QEMU, inv.Host.Libvirt = m.QEMU, m.Libvirt
		} else {
			inv.Host.QEMU = manager.QEMU(ctx, w.add)
			inv.Host.Libvirt = manager.Libvirt(ctx, w.add)
		}
	}
	if h.origin == inventory.FromSimulator {
		complete(inv)
	}
	record.Apply(h.dir, inv, w.add)
	facts.Apply(h.dir, inv, w.add)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read the inventory: %w", err)
	}
	return h.finish(inv, w)
}

// List reads what the tables of types and devices show, and no more: every
// read of an attribute is a call into its driver.
func (h *Host) List(types, devices bool) *inventory.Inventory {
	w := new(warnings)
	inv := h.start(w)
	h.list(inv, types, devices, w.add)
	inv.Warnings = w.list
	inv.Sort()
	return inv
}

func (h *Host) start(w *warnings) *inventory.Inventory {
	inv := &inventory.Inventory{Schema: inventory.Schema, Origin: h.origin, Taken: time.Now().UTC().Truncate(time.Second)}
	for _, name := range []string{"proc/sys/kernel/hostname", "etc/hostname"} {
		if text, err := tree.FileText(h.dir, name); err == nil && strings.TrimSpace(text) != "" {
			inv.Host.Name = strings.TrimSpace(text)
			return inv
		}
	}
	inv.Host.Name = filepath.Base(h.root)
	w.add("proc/sys/kernel/hostname", fmt.Errorf("the host's name is not there: the directory's name %q is used", inv.Host.Name))
	return inv
}

// finish puts warnings in and checks the whole: what the kernel shows must
// satisfy the rules that every reader of the document relies on.
func (h *Host) finish(inv *inventory.Inventory, w *warnings) (*inventory.Inventory, error) {
	inv.Warnings = w.list
	adopt(inv)
	inv.Sort()
	if err := inv.Validate(); err != nil {
		return nil, fmt.Errorf("the inventory of %s: %w", inv.Host.Name, err)
	}
	return inv, nil
}

// adopt gives a device whose parent was not listed (it went meanwhile, or
// could not be read) a parent of which nothing is known, so that it is not lost.
func adopt(inv *inventory.Inventory) {
	known := make(map[string]bool, len(inv.Parents))
	for i := range inv.Parents {
		known[inv.Parents[i].Name] = true
	}
	for i := range inv.Devices {
		d := &inv.Devices[i]
		if !known[d.Parent] {
			known[d.Parent] = true
			inv.Parents = append(inv.Parents, inventory.Parent{Name: d.Parent, Kind: inventory.MdevParent, Namespace: d.Type.Namespace, TypesUnread: true})
		}
	}
}

// scan reads parents and devices of all kinds, with who holds them.
func (h *Host) scan(inv *inventory.Inventory, warn tree.Warn) {
	parents, listed := mdev.Parents(h.dir, mdev.Full, warn)
	devices, devicesListed := mdev.Devices(h.dir, mdev.Full, warn)
	functionParents, functions, functionsListed := h.functions(warn)
	inv.Parents, inv.Devices = unique(append(parents, functionParents...), warn), append(devices, functions...)
	inv.ParentsUnread = !listed || !functionsListed
	inv.DevicesUnread = !devicesListed || !functionsListed
	holders := proc.ReadHolders(h.dir)
	for i := range inv.Devices {
		inv.Devices[i].InUse = holders.InUse(&inv.Devices[i])
	}
	countFree(inv.Parents, inv.Devices)
}

func (h *Host) list(inv *inventory.Inventory, types, devices bool, warn tree.Warn) {
	var functionParents []inventory.Parent
	var functions []inventory.Device
	var functionsListed bool
	var alongside sync.WaitGroup
	alongside.Go(func() {
		functionParents, functions, functionsListed = h.functions(warn)
		countFree(functionParents, functions)
	})
	defer func() {
		alongside.Wait()
		if types {
			inv.Parents = unique(append(inv.Parents, functionParents...), warn)
			inv.ParentsUnread = inv.ParentsUnread || !functionsListed
		}
		if devices {
			inv.Devices = append(inv.Devices, functions...)
			inv.DevicesUnread = inv.DevicesUnread || !functionsListed
		}
	}()
	if types {
		parents, listed := mdev.Parents(h.dir, mdev.Brief, warn)
		inv.Parents, inv.ParentsUnread = parents, !listed
	}
	if devices {
		list, listed := mdev.Devices(h.dir, mdev.Brief, warn)
		inv.Devices, inv.DevicesUnread = list, !listed
	}
}

// unique leaves one parent of each name: a function can offer types in two
// ways, as a card does that gives some of its functions a vGPU type and others
// to guests whole, and an inventory holds one. A parent that offers more than
// bound functions stays; what is left out makes its list of types not whole.
func unique(parents []inventory.Parent, warn tree.Warn) []inventory.Parent {
	at := make(map[string]int, len(parents))
	kept := parents[:0]
	for _, p := range parents {
		i, twice := at[p.Name]
		if !twice {
			at[p.Name] = len(kept)
			kept = append(kept, p)
			continue
		}
		left := p
		if kept[i].Kind == inventory.FunctionParent {
			kept[i], left = p, kept[i]
		}
		kept[i].TypesUnread = true
		warn(left.Path, fmt.Errorf("offers types as %s parent and as %s parent: the latter are left out", kept[i].Kind, left.Kind))
	}
	return kept
}

// functions reads PCI functions of both kinds. listed is false when there may
// be more. An mdev parent is neither: it is bound to the driver that registered
// it, which gives up its types before another driver can be bound
// (mdev_unregister_parent() in drivers/vfio/mdev/mdev_core.c), and NVIDIA's
// driver has types to be set only where it has none of mdev.
func (h *Host) functions(warn tree.Warn) (all []inventory.Parent, held []inventory.Device, listed bool) {
	bound, listed := pci.List(h.dir, mdev.Names(h.dir), warn)
	var ofNVIDIA []pci.Bound
	bound = slices.DeleteFunc(bound, func(b pci.Bound) bool {
		is := nvidia.IsFunction(h.dir, b)
		if is {
			ofNVIDIA = append(ofNVIDIA, b)
		}
		return is
	})
	parents, devices := pci.Functions(h.dir, bound, warn)
	cards, vgpus := nvidia.Read(h.dir, ofNVIDIA, warn)
	return append(parents, cards...), append(devices, vgpus...), listed
}

// countFree gives the types of bound functions their room: the functions that
// nobody holds. It stays unknown while that is unknown of one of them.
func countFree(parents []inventory.Parent, devices []inventory.Device) {
	for i := range parents {
		if parents[i].Kind != inventory.FunctionParent {
			continue
		}
		for j := range parents[i].Types {
			t := &parents[i].Types[j]
			free, known := 0, true
			for k := range devices {
				if d := &devices[k]; d.Parent == parents[i].Name && d.Type == t.TypeName {
					known = known && d.InUse != inventory.Unknown
					if d.InUse == inventory.No {
						free++
					}
				}
			}
			switch {
			case free > 0:
				t.Creatable = inventory.Yes
			case known:
				t.Creatable = inventory.No
			}
			if known {
				t.Available = new(free)
			}
		}
	}
}

// modules reports every kernel module that takes part, and links parents and
// devices to theirs.
func (h *Host) modules(inv *inventory.Inventory, named []string, warn tree.Warn) {
	names := module.VFIO(h.dir, warn)
	link := func(list *[]string, dir string) {
		if name, ok := module.OfDriver(h.dir, dir, warn).Get(); ok && !slices.Contains(*list, name) {
			*list = append(*list, name)
			names = append(names, name)
		}
	}
	for i := range inv.Devices {
		d := &inv.Devices[i]
		dir := "sys/bus/mdev/devices/" + d.ID
		if d.Kind != inventory.Mdev {
			dir = path.Join(pci.Devices, d.ID)
		}
		if target, err := tree.Target(h.dir, dir); err == nil {
			link(&d.Modules, target)
		}
	}
	for i := range inv.Parents {
		p := &inv.Parents[i]
		if p.Path != "" {
			link(&p.Modules, p.Path)
		}
		for j := range inv.Devices {
			if inv.Devices[j].Parent == p.Name {
				p.Modules = append(p.Modules, inv.Devices[j].Modules...)
			}
		}
		// A class device such as mtty's has no driver link, but its module
		// mostly bears the namespace's name.
		if name := strings.ReplaceAll(p.Namespace, "-", "_"); name != "" && module.Exists(h.dir, name) {
			p.Modules = append(p.Modules, name)
			names = append(names, name)
		}
		slices.Sort(p.Modules)
		p.Modules = slices.Compact(p.Modules)
	}
	for _, name := range named {
		if module.Exists(h.dir, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		inv.Modules = append(inv.Modules, module.Read(h.dir, name, inv.Host.Kernel.BuildID, warn))
	}
}

// migration tells which devices and types can migrate. What one device of a
// type shows holds for its siblings on the same parent.
func (h *Host) migration(inv *inventory.Inventory, probe bool, warn tree.Warn) {
	owned := ownedIdle(h.dir, inv)
	for i := range inv.Devices {
		d := &inv.Devices[i]
		d.Migration = vfio.FromDebugfs(h.dir, d.ID, warn)
		if group, ok := d.Group.Get(); d.Migration == nil && probe && h.live && ok && owned[d.ID] {
			m, err := vfio.Probe(d.ID, group)
			if err != nil {
				warn(path.Join("dev/vfio", group), err)
			}
			d.Migration = m
		}
		if p := inv.Parent(d.Parent); p != nil && d.Migration != nil {
			if t := p.Type(d.Type); t != nil {
				t.Migration = sibling(t.Migration, d.Migration)
			}
		}
	}
}

// sibling is what instances of one type show together. Ones that differ tell
// nothing of the next: mlx5 lets its ports be set migratable one by one.
func sibling(shown, next *inventory.Migration) *inventory.Migration {
	if shown != nil && shown.Can != next.Can {
		return &inventory.Migration{Can: inventory.Unknown, Source: next.Source}
	}
	return next
}

// ownedIdle are the devices that may be opened: Kindred's own by its records,
// held by no process. A canary is about to be opened by who made it.
func ownedIdle(d tree.Dir, inv *inventory.Inventory) map[string]bool {
	copied := inventory.Inventory{Devices: slices.Clone(inv.Devices)}
	record.Apply(d, &copied, func(string, error) {})
	owned := make(map[string]bool)
	for i := range copied.Devices {
		if d := &copied.Devices[i]; d.Ours && d.Canary == "" && d.InUse == inventory.No {
			owned[d.ID] = true
		}
	}
	return owned
}

// firmware asks devlink for every PCI parent.
func (h *Host) firmware(ctx context.Context, inv *inventory.Inventory, warn tree.Warn) {
	var conn *devlink.Conn
	for i := range inv.Parents {
		p := &inv.Parents[i]
		if p.Path == "" {
			continue // it was not reached
		}
		if p.PCI == nil {
			p.Firmware = inventory.Attributes{Complete: true}
			continue
		}
		if conn == nil {
			var err error
			if conn, err = devlink.Dial(); errors.Is(err, devlink.ErrNone) {
				p.Firmware = inventory.Attributes{Complete: true}
				continue
			} else if err != nil {
				warn("devlink", err)
				return
			}
			defer conn.Close()
		}
		versions, err := conn.Info(ctx, "pci", p.Name)
		if err != nil {
			warn(p.Path, err)
			continue
		}
		p.Firmware = versions
	}
}

// complete tells of a simulated machine what is known of it without asking
// programs and sockets: it has no devlink and no VM manager.
func complete(inv *inventory.Inventory) {
	inv.Host.QEMU, inv.Host.Libvirt = inventory.None(), inventory.None()
	for i := range inv.Parents {
		inv.Parents[i].Firmware = inventory.Attributes{Complete: true}
	}
}

// warnings collects what could not be read.
type warnings struct {
	mu   sync.Mutex
	list []inventory.Warning
}

func (w *warnings) add(name string, err error) {
	// The path is in the warning already.
	if p, ok := errors.AsType[*fs.PathError](err); ok && p == err {
		err = p.Err
	}
	problem := strings.Join(strings.Fields(err.Error()), " ")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, inventory.Warning{Path: name, Problem: problem})
}
