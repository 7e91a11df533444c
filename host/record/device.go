// SPDX-License-Identifier: Apache-2.0

package record

import (
	"path"
	"time"

	"kindred/host/tree"
	"kindred/inventory"
)

// Device is the record of one device.
type Device struct {
	// Ours is true for a device that Kindred made.
	Ours bool `json:"ours"`
	// Canary is what a throw-away device was made for; empty for all others.
	Canary   string              `json:"canary,omitempty"`
	Contract *inventory.Contract `json:"contract"`
	// Boot is the boot in which it was made: what is in the kernel, and a
	// promise to a running guest, do not outlive that.
	Boot string `json:"boot,omitempty"`
	// Instance tells the device from one that was made anew under its name; 0
	// where that cannot be told. See [Instance].
	Instance uint64 `json:"instance,omitempty"`

	Kind   inventory.DeviceKind `json:"kind,omitempty"`
	Parent string               `json:"parent,omitempty"`
	Type   string               `json:"type,omitempty"` // full name
	// Steps are how it is made, in order, with what was there before: its undoing
	// is the same in reverse.
	Steps []Step `json:"steps,omitempty"`
	// Change is what was begun and is not over. It is on record before the first
	// of its steps.
	Change *Change `json:"change,omitempty"`
}

// Change is a change that is under way, or was cut short.
type Change struct {
	Op    string    `json:"op"`  // start, stop
	PID   int       `json:"pid"` // of the process that began it
	Began time.Time `json:"began"`
	// Made is true when the step that makes the device is surely done: before,
	// a device of this name may be somebody else's.
	Made bool `json:"made,omitempty"`
	// Asked is true of a stop that is not to be given up although the device is
	// in use: it was forced, or the kernel has been asked for it and does it yet.
	Asked bool `json:"asked,omitempty"`
}

// Operations of a Change.
const (
	Start = "start"
	Stop  = "stop"
)

// Step is one write to the kernel. Package host/change says what each does.
type Step struct {
	Do     string `json:"do"`
	Name   string `json:"name,omitempty"`
	Value  string `json:"value,omitempty"`
	Before string `json:"before,omitempty"` // what was there
}

// bootFile is random for every boot (drivers/char/random.c).
const bootFile = "proc/sys/kernel/random/boot_id"

// Boot is the boot that d shows; empty when it shows none, as a copy.
func Boot(d tree.Dir) string {
	text, err := tree.FileText(d, bootFile)
	if err != nil {
		return ""
	}
	return text
}

// Instance is a number that the device has and no other device of this boot,
// also none of the same name; 0 where the machine has no such numbers. It is
// the inode of the directory that exists as long as the device: kernfs counts
// them up (__kernfs_new_node() of fs/kernfs/dir.c). For an mdev it is its own
// directory, for a PCI function that of its VFIO device.
func Instance(d tree.Dir, kind inventory.DeviceKind, id string) uint64 {
	numbered, ok := d.(tree.Numbered)
	if !ok {
		return 0
	}
	dir := path.Join("sys/bus/mdev/devices", id)
	if kind != inventory.Mdev {
		dir = path.Join("sys/bus/pci/devices", id, "vfio-dev")
		nodes, err := d.ReadDir(dir)
		if err != nil || len(nodes) == 0 {
			return 0
		}
		dir = path.Join(dir, nodes[0].Name)
	}
	n, err := numbered.Inode(dir)
	if err != nil {
		return 0
	}
	return n
}

// Of reports whether the record is of the device that has this name now. Where
// the machine has no numbers or shows no boot, the name decides.
func (r *Device) Of(d tree.Dir, kind inventory.DeviceKind, id string) bool {
	if boot := Boot(d); boot != "" && r.Boot != "" && boot != r.Boot {
		return false
	}
	n := Instance(d, kind, id)
	return n == 0 || r.Instance == 0 || n == r.Instance
}

// Check refuses a record that no inventory could hold: it must not make the
// whole inventory fail.
func (r *Device) Check() error {
	one := inventory.Inventory{
		Origin: inventory.FromTree, Host: inventory.Host{Name: "record"},
		Parents: []inventory.Parent{{Name: "record", Kind: inventory.MdevParent}},
		Devices: []inventory.Device{{ID: "record", Parent: "record", InUse: inventory.Unknown, Contract: r.Contract}},
	}
	return one.Validate()
}
