// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Schema names the shape of the document. It changes when a reader of the old
// shape could misread the new one.
const Schema = "kindred.inventory/v1"

// Origin says what the inventory was read from, so that nothing simulated or
// recorded can be taken for a running host.
type Origin string

const (
	FromKernel    Origin = "kernel"    // the running kernel of this host
	FromTree      Origin = "tree"      // a directory that holds a copy of one
	FromSimulator Origin = "simulator" // a machine that does not exist
)

// Inventory is one host at one moment.
type Inventory struct {
	Schema string    `json:"schema"`
	Origin Origin    `json:"origin"`
	Taken  time.Time `json:"taken"` // when it was read, UTC
	Host   Host      `json:"host"`
	// DevicesUnread is true when there may be devices that could not be listed.
	DevicesUnread bool `json:"devices_unread,omitempty"`
	// ParentsUnread is true when there may be parents that could not be listed.
	ParentsUnread bool      `json:"parents_unread,omitempty"`
	Modules       []Module  `json:"modules"`  // kernel modules that take part, by name
	Parents       []Parent  `json:"parents"`  // by name
	Devices       []Device  `json:"devices"`  // by parent, then id
	Warnings      []Warning `json:"warnings"` // what could not be read, and why
}

// Host is the machine and its kernel.
type Host struct {
	Name    string `json:"name"`
	Kernel  Kernel `json:"kernel"`
	OS      OS     `json:"os,omitzero"`
	QEMU    Value  `json:"qemu,omitzero"`    // version; null: looked for, not installed
	Libvirt Value  `json:"libvirt,omitzero"` // version; null: looked for, not installed
	Facts   Facts  `json:"facts,omitempty"`
}

// Kernel identifies the running kernel.
type Kernel struct {
	Release Value `json:"release,omitzero"`  // uname -r
	Version Value `json:"version,omitzero"`  // uname -v
	Arch    Value `json:"arch,omitzero"`     // uname -m
	BuildID Value `json:"build_id,omitzero"` // ELF build-id of vmlinux, from /sys/kernel/notes
}

// OS is the distribution, as /etc/os-release names it. Some vendors' rules
// differ by its release.
type OS struct {
	ID        Value `json:"id,omitzero"`
	VersionID Value `json:"version_id,omitzero"`
}

// Module is one kernel module, /sys/module/<name>.
type Module struct {
	Name       string     `json:"name"`
	BuiltIn    bool       `json:"built_in,omitempty"`  // part of the kernel image: its build-id is the kernel's
	Version    Value      `json:"version,omitzero"`    // MODULE_VERSION; proves nothing when equal
	SrcVersion Value      `json:"srcversion,omitzero"` // hash of the sources, where the module has one
	BuildID    Value      `json:"build_id,omitzero"`   // notes/.note.gnu.build-id
	Taint      Value      `json:"taint,omitzero"`      // letters as in /proc/modules, empty for none
	Parameters Attributes `json:"parameters,omitzero"`
}

// ParentKind is how a parent offers its types.
type ParentKind string

const (
	MdevParent     ParentKind = "mdev"     // mdev_supported_types
	FunctionParent ParentKind = "function" // PCI functions bound to a VFIO driver: the VFs of a PF, or the function itself
	VGPUParent     ParentKind = "vgpu"     // NVIDIA vendor VFIO: a type is chosen per VF
)

// Parent is a physical device, or a function on one, that offers types.
type Parent struct {
	Name      string     `json:"name"` // sysfs name: 0000:41:00.0, mtty, matrix
	Path      string     `json:"path"` // below the root: sys/devices/…
	Kind      ParentKind `json:"kind"`
	Namespace string     `json:"namespace"`         // the driver that names the types; empty: could not be told
	Driver    Value      `json:"driver,omitzero"`   // bound driver; null: none, as for a class device
	Modules   []string   `json:"modules,omitempty"` // every module found to take part, see Inventory.Modules
	PCI       *PCI       `json:"pci,omitempty"`
	NUMANode  Value      `json:"numa_node,omitzero"`   // -1: no affinity
	Group     Value      `json:"iommu_group,omitzero"` // number of the IOMMU group; null: none
	Firmware  Attributes `json:"firmware,omitzero"`    // devlink's running and fixed versions: fw.version, fw.psid, …
	// Attributes the driver publishes on the parent itself.
	Attributes Attributes `json:"attributes,omitzero"`
	Facts      Facts      `json:"facts,omitempty"`
	Types      []Type     `json:"types"` // by name
	// TypesUnread is true when there may be types that could not be listed.
	TypesUnread bool `json:"types_unread,omitempty"`
}

// Type returns the parent's type of that namespace and name, or nil.
func (p *Parent) Type(name TypeName) *Type {
	for i := range p.Types {
		if p.Types[i].TypeName == name {
			return &p.Types[i]
		}
	}
	return nil
}

// PCI is a PCI function's identity and what a guest can see of it. Numbers are
// text as sysfs prints them (0x10de).
type PCI struct {
	Address         string `json:"address"` // 0000:41:00.0
	Vendor          Value  `json:"vendor,omitzero"`
	Device          Value  `json:"device,omitzero"`
	SubsystemVendor Value  `json:"subsystem_vendor,omitzero"`
	SubsystemDevice Value  `json:"subsystem_device,omitzero"`
	Class           Value  `json:"class,omitzero"`
	Revision        Value  `json:"revision,omitzero"`
	BARs            Value  `json:"bars,omitzero"`            // sizes in bytes of BAR 0-5, hexadecimal, comma separated
	PF              Value  `json:"pf,omitzero"`              // address of the physical function; null: this is no VF
	TotalVFs        Value  `json:"sriov_totalvfs,omitzero"`  // null: not an SR-IOV function
	NumVFs          Value  `json:"sriov_numvfs,omitzero"`    // VFs enabled now
	Override        Value  `json:"driver_override,omitzero"` // null: none set
}

// TypeName is a type's full name in its two parts. The parts are kept apart:
// a full name cannot be split ("qat-v4-type1" splits two ways).
type TypeName struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Full is the name people and the kernel use: <namespace>-<name>.
func (n TypeName) Full() string { return n.Namespace + "-" + n.Name }

// Compare orders by namespace, then name.
func (n TypeName) Compare(m TypeName) int {
	return cmp.Or(cmp.Compare(n.Namespace, m.Namespace), cmp.Compare(n.Name, m.Name))
}

// TypeSource says how a type came to be listed.
type TypeSource string

const (
	ListedByKernel TypeSource = "kernel"    // the parent offers it in sysfs now
	ListedByConfig TypeSource = "config"    // NVIDIA's vgpuConfig.xml
	ListedByIdle   TypeSource = "idle-scan" // seen when the parent was idle
	ListedByDevice TypeSource = "device"    // an instance exists, the parent does not list it
)

// Type is an interface that a parent offers. Supported, creatable now and in
// use are three different sets: a type is supported when it is listed at all.
type Type struct {
	TypeName
	Label       Value      `json:"label,omitzero"`       // the vendor's name for people
	DeviceAPI   Value      `json:"device_api,omitzero"`  // vfio-pci, vfio-ap, vfio-ccw, …
	Description Value      `json:"description,omitzero"` // null: the driver has none
	Available   *int       `json:"available,omitempty"`  // how many more the kernel says it would create; it reserves nothing
	Creatable   Answer     `json:"creatable"`            // would the kernel create one now
	ListedBy    TypeSource `json:"listed_by"`
	ListedAt    *time.Time `json:"listed_at,omitempty"` // for a list that is not from now
	ListedIn    string     `json:"listed_in,omitempty"` // the file, for a list that is not the kernel's
	Attributes  Attributes `json:"attributes,omitzero"` // vendor attributes; for functions the guest-visible configuration
	Migration   *Migration `json:"migration,omitempty"` // nil: not observed
	Facts       Facts      `json:"facts,omitempty"`     // facts stated for this type
}

// Migration is whether the kernel would migrate it, and how that is known.
type Migration struct {
	Can    Answer   `json:"can"`
	Source string   `json:"source"`          // debugfs, probe
	Flags  []string `json:"flags,omitempty"` // stop-copy, p2p, pre-copy; empty when not told
}

// DeviceKind is what a device is made of.
type DeviceKind string

const (
	Mdev     DeviceKind = "mdev"     // a mediated device
	VF       DeviceKind = "vf"       // an SR-IOV virtual function bound to a VFIO driver
	Function DeviceKind = "function" // a whole PCI function bound to a VFIO driver
	VGPU     DeviceKind = "vgpu"     // a VF that was given an NVIDIA vGPU type
)

// Device is an instance of a type.
type Device struct {
	ID         string     `json:"id"` // mdev UUID in lower case, or PCI address
	Kind       DeviceKind `json:"kind"`
	Parent     string     `json:"parent"`            // Parent.Name
	Type       TypeName   `json:"type"`              // the type it was created as
	Driver     Value      `json:"driver,omitzero"`   // the driver bound to the device itself
	Modules    []string   `json:"modules,omitempty"` // modules found through the device
	PCI        *PCI       `json:"pci,omitempty"`
	Group      Value      `json:"iommu_group,omitzero"`
	Node       Value      `json:"node,omitzero"`       // vfio-dev name (vfio3); null: none
	InUse      Answer     `json:"in_use"`              // does a process hold it open
	Ours       bool       `json:"ours,omitempty"`      // Kindred made it, on record
	Canary     string     `json:"canary,omitempty"`    // it is a throw-away device: what it was made for, an order of the server's or "prove"
	Attributes Attributes `json:"attributes,omitzero"` // vendor attributes of the instance
	Migration  *Migration `json:"migration,omitempty"` // nil: not observed
	// Contract is what the device promised its guest at first start; null when
	// none was recorded.
	Contract *Contract `json:"contract"`
	// ContractUnread is true when a contract may exist but could not be read.
	ContractUnread bool `json:"contract_unread,omitempty"`
}

// Contract is the interface a guest was started with. It travels with claims
// and migrations, so that in a chain A -> B -> C the promise made on A counts.
type Contract struct {
	Type             TypeName   `json:"type"`
	Label            Value      `json:"label,omitzero"`
	DeviceAPI        Value      `json:"device_api,omitzero"`
	TypeAttributes   Attributes `json:"type_attributes,omitzero"`
	DeviceAttributes Attributes `json:"device_attributes,omitzero"`
	Host             string     `json:"host,omitempty"` // where the guest was first started
	Recorded         time.Time  `json:"recorded"`
}

// Warning is something that could not be read or believed. It never hides the
// rest of the inventory.
type Warning struct {
	Path    string `json:"path"`    // below the root
	Problem string `json:"problem"` // one line
}

// Parent returns the named parent, or nil.
func (inv *Inventory) Parent(name string) *Parent {
	for i := range inv.Parents {
		if inv.Parents[i].Name == name {
			return &inv.Parents[i]
		}
	}
	return nil
}

// Device returns the device with that id, or nil.
func (inv *Inventory) Device(id string) *Device {
	for i := range inv.Devices {
		if inv.Devices[i].ID == id {
			return &inv.Devices[i]
		}
	}
	return nil
}

// Module returns the named module, or nil.
func (inv *Inventory) Module(name string) *Module {
	for i := range inv.Modules {
		if inv.Modules[i].Name == name {
			return &inv.Modules[i]
		}
	}
	return nil
}

// Sort puts every list into its documented order.
func (inv *Inventory) Sort() {
	slices.SortFunc(inv.Modules, func(a, b Module) int { return cmp.Compare(a.Name, b.Name) })
	sortBy(inv.Parents, func(a, b *Parent) int { return cmp.Compare(a.Name, b.Name) })
	for i := range inv.Parents {
		sortBy(inv.Parents[i].Types, func(a, b *Type) int { return a.Compare(b.TypeName) })
	}
	sortBy(inv.Devices, (*Device).compare)
	slices.SortFunc(inv.Warnings, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Problem, b.Problem))
	})
}

// sortBy sorts a list that mostly is in order: to see that, its large elements
// need not be copied.
func sortBy[T any](list []T, compare func(a, b *T) int) {
	for i := 1; i < len(list); i++ {
		if compare(&list[i-1], &list[i]) > 0 {
			slices.SortFunc(list, func(a, b T) int { return compare(&a, &b) })
			return
		}
	}
}

// compare orders by parent, then ID.
func (d *Device) compare(e *Device) int {
	if c := strings.Compare(d.Parent, e.Parent); c != 0 {
		return c
	}
	return strings.Compare(d.ID, e.ID)
}
