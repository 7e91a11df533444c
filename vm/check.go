// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"kindred/inventory"
)

// Condition is one thing that a VM's migration needs beside compatibility and room.
type Condition struct {
	Code   string           `json:"code"`
	Met    inventory.Answer `json:"met"`
	Detail string           `json:"detail"`
}

// Codes of conditions.
const (
	VMState   = "vm.state"   // it runs
	VMDevices = "vm.devices" // its host reported its devices, and that they are in use
	VMKernel  = "vm.kernel"  // both kernels move VFIO devices
	VMP2P     = "vm.p2p"     // of several devices each can be kept from reaching the others
)

// oldestKernel has version 2 of VFIO's migration (include/uapi/linux/vfio.h,
// VFIO_DEVICE_FEATURE_MIGRATION), which QEMU speaks alone since 8.0.
var oldestKernel = [2]int{5, 18}

// Conditions judges what package fleet does not: the VM itself, its devices
// together, and the kernels.
func Conditions(g *Guest, source, target *inventory.Inventory) []Condition {
	list := []Condition{state(g), devices(g, source), kernel(source, target)}
	if len(g.Devices) > 1 {
		list = append(list, p2p(g, source))
	}
	return list
}

// Met is the answer to all conditions together.
func Met(list []Condition) inventory.Answer {
	all := inventory.Yes
	for _, c := range list {
		switch {
		case c.Met == inventory.No:
			return inventory.No
		case c.Met != inventory.Yes:
			all = inventory.Unknown
		}
	}
	return all
}

func state(g *Guest) Condition {
	if g.State.Live() {
		return Condition{VMState, inventory.Yes, "it is " + string(g.State)}
	}
	return Condition{VMState, inventory.No, fmt.Sprintf("it is %s: there is nothing to be moved while it runs", g.State)}
}

func devices(g *Guest, source *inventory.Inventory) Condition {
	c := Condition{VMDevices, inventory.Yes, fmt.Sprintf("%s reported all %d, in use", source.Host.Name, len(g.Devices))}
	if len(g.Devices) == 0 {
		return Condition{VMDevices, inventory.No, "it has none of the host's devices: its VM manager migrates it alone"}
	}
	for _, id := range g.IDs() {
		d := source.Device(id)
		switch {
		case d == nil:
			return Condition{VMDevices, inventory.No, fmt.Sprintf("%s has not reported %s", source.Host.Name, id)}
		case d.InUse != inventory.Yes:
			c = Condition{VMDevices, inventory.Unknown, fmt.Sprintf("%s has not seen %s in use: its last report may be older than the VM", source.Host.Name, id)}
		}
	}
	return c
}

func kernel(hosts ...*inventory.Inventory) Condition {
	c := Condition{Code: VMKernel, Met: inventory.Yes}
	var said []string
	for _, h := range hosts {
		text, known := h.Host.Kernel.Release.Get()
		said = append(said, h.Host.Name+" "+text)
		v, ok := release(text)
		switch {
		case !known || !ok:
			said[len(said)-1] = h.Host.Name + " has a kernel of which no release is known"
			if c.Met == inventory.Yes {
				c.Met = inventory.Unknown
			}
		case slices.Compare(v[:], oldestKernel[:]) < 0:
			said[len(said)-1] += fmt.Sprintf(" is too old: VFIO migration needs %d.%d", oldestKernel[0], oldestKernel[1])
			c.Met = inventory.No
		}
	}
	c.Detail = strings.Join(said, ", ")
	return c
}

// release are the first two numbers of a kernel's release, 6.12.117-amd64.
func release(text string) (v [2]int, ok bool) {
	major, rest, _ := strings.Cut(text, ".")
	minor := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	var err1, err2 error
	v[0], err1 = strconv.Atoi(major)
	v[1], err2 = strconv.Atoi(minor)
	return v, err1 == nil && err2 == nil
}

// p2p: QEMU refuses a VM with several devices of which one has no P2P states
// (hw/vfio/migration.c, vfio_multiple_devices_migration_is_supported). A device in
// use is not asked; what its siblings on the parent showed holds for it.
func p2p(g *Guest, source *inventory.Inventory) Condition {
	c := Condition{VMP2P, inventory.Yes, "every device has the P2P states that several devices of one VM need"}
	for _, id := range g.IDs() {
		flags := states(source, id)
		switch {
		case len(flags) == 0:
			c = Condition{VMP2P, inventory.Unknown, "whether " + id + " has the P2P states that several devices of one VM need was not observed: " +
				"kindred inspect --probe beside an idle one of its type shows it; QEMU knows, and refuses on the source if not"}
		case !slices.Contains(flags, "p2p"):
			return Condition{VMP2P, inventory.No, id + " has no P2P states, which several devices of one VM need"}
		}
	}
	return c
}

// states are those of migration that a device has, or its siblings; none: it is not
// known.
func states(source *inventory.Inventory, id string) []string {
	d := source.Device(id)
	if d == nil {
		return nil
	}
	if d.Migration != nil && len(d.Migration.Flags) > 0 {
		return d.Migration.Flags
	}
	p := source.Parent(d.Parent)
	if p == nil {
		return nil
	}
	if t := p.Type(d.Type); t != nil && t.Migration != nil {
		return t.Migration.Flags
	}
	return nil
}
