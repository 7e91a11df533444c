// SPDX-License-Identifier: Apache-2.0

// Package fleets makes fleets of hosts that do not exist, to measure and to
// test on: any number of hosts of a few tens of makes, the same for a seed in
// every run.
//
// A vendor's cards come in generations; a newer one offers the older types
// beside its own. A card's types are sizes of a few interfaces and share its
// units. Hosts of a generation differ in kernel and driver build, in firmware,
// in a stated fact and in QEMU, so that some pairs are equal, some proved, some
// unknown and some refused. Each host has devices of its own, which take room.
package fleets

import (
	_ "embed"
	"fmt"
	"math/rand/v2"
	"time"

	"kindred/compat"
	"kindred/inventory"
)

// Size says how large a fleet is. The zero value of a field is its default.
type Size struct {
	Hosts   int // 100
	Parents int // of each host; 8
	Types   int // of each parent, a multiple of four; 16
	Devices int // of each host, where they fit; 5
	// Plain is a fleet of one make, on which nothing is used but by the devices of
	// the first host, which are of one type and each on a parent of its own.
	Plain bool
}

func (s Size) filled() Size {
	for _, f := range []struct {
		field *int
		value int
	}{{&s.Hosts, 100}, {&s.Parents, 8}, {&s.Types, 16}, {&s.Devices, 5}} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	return s
}

// Fleet is a fleet as it is stored: static parts, and hosts with what is their
// own.
type Fleet struct {
	Size    Size
	Engine  *compat.Engine
	Statics []*inventory.Inventory
	Digests []string // of the static parts
	Proofs  []compat.Proof
	Catalog []byte // YAML

	seed  uint64
	makes map[string]int // static parts by their digests
}

const (
	generations = 6
	units       = 16 // of a parent
	sizes       = 4  // 1, 2, 4 and 8 units
)

//go:embed acme.yaml
var catalog []byte

// taken is when the inventories were taken.
var taken = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// New makes a fleet.
func New(seed uint64, size Size) (*Fleet, error) {
	f := &Fleet{Size: size.filled(), Catalog: catalog, seed: seed, makes: make(map[string]int)}
	c, err := compat.ParseCatalog("acme", catalog)
	if err != nil {
		return nil, fmt.Errorf("the synthetic fleet's catalog: %w", err)
	}
	catalogs, err := compat.NewCatalogs(nil, []*compat.Catalog{c})
	if err != nil {
		return nil, err
	}
	many, few := generations, 4
	if f.Size.Plain {
		many, few = 1, 1
	}
	for generation := range many {
		for kernel := range few {
			for variant := range few {
				static := f.static(generation, kernel, variant)
				digest, err := static.Digest()
				if err != nil {
					return nil, err
				}
				f.makes[digest] = len(f.Statics)
				f.Statics, f.Digests = append(f.Statics, static), append(f.Digests, digest)
			}
		}
	}
	if f.Proofs, err = f.proofs(compat.NewEngine(catalogs, nil)); err != nil {
		return nil, err
	}
	f.Engine = compat.NewEngine(catalogs, f.Proofs)
	return f, nil
}

// static is one make: a generation, one of four kernels with its driver build,
// and one of four variants of firmware, QEMU and a fact.
func (f *Fleet) static(generation, kernel, variant int) *inventory.Inventory {
	inv := &inventory.Inventory{
		Schema: inventory.Schema,
		Host: inventory.Host{
			Kernel:  inventory.Kernel{Release: inventory.Of(fmt.Sprintf("6.%d.0-%d-amd64", 1+4*kernel, 18+kernel)), Arch: inventory.Of("x86_64")},
			OS:      inventory.OS{ID: inventory.Of("debian"), VersionID: inventory.Of(fmt.Sprint(12 + kernel/2))},
			QEMU:    inventory.Of([]string{"9.0", "9.0", "9.0", "10.0"}[variant]),
			Libvirt: inventory.Of("10.0"),
			Facts:   inventory.Facts{"ecc": {Value: inventory.Of([]string{"on", "on", "off", "on"}[variant]), Source: "synthetic"}},
		},
		Modules: []inventory.Module{{
			Name: "acme", BuildID: inventory.Of(fmt.Sprintf("%040x", 1000+kernel)), Version: inventory.Of("1.0"), Parameters: inventory.Attributes{Complete: true},
		}},
	}
	for p := range f.Size.Parents {
		address := fmt.Sprintf("0000:%02x:00.0", 0x10+8*p)
		parent := inventory.Parent{
			Name: address, Path: "sys/devices/pci0000:00/" + address, Kind: inventory.MdevParent, Namespace: "acme", Driver: inventory.Of("acme"),
			Modules: []string{"acme"}, NUMANode: inventory.Of(fmt.Sprint(p % 2)),
			PCI:      &inventory.PCI{Address: address, Vendor: inventory.Of("0x1af5"), Device: inventory.Of(fmt.Sprintf("0x%04x", 0x2000+generation))},
			Firmware: inventory.Attributes{Complete: true},
		}
		parent.Firmware.Set("fw", fmt.Sprintf("%d.%d", 10+generation, variant%2))
		for t := range f.Size.Types {
			parent.Types = append(parent.Types, f.typ(generation, t))
		}
		inv.Parents = append(inv.Parents, parent)
	}
	inv.Sort()
	return inv
}

// typ is the type number t of a generation: its own interface and those of the
// generations before, each in every size.
func (f *Fleet) typ(generation, t int) inventory.Type {
	iface, size := generation+t/sizes, t%sizes
	typ := inventory.Type{
		TypeName: inventory.TypeName{Namespace: "acme", Name: fmt.Sprintf("v%02d_%d", iface, 1<<size)},
		Label:    inventory.Of(fmt.Sprintf("Acme V%d, %d units", iface, 1<<size)), DeviceAPI: inventory.Of("vfio-pci"), Description: inventory.None(),
		Creatable: inventory.Unknown, ListedBy: inventory.ListedByKernel, Attributes: inventory.Attributes{Complete: true},
	}
	typ.Attributes.Set("version", fmt.Sprintf("%d.%d", iface, generation))
	typ.Attributes.Set("queues", fmt.Sprint(1<<size))
	return typ
}

// proofs settle every other pair of builds, for the types in their order.
func (f *Fleet) proofs(engine *compat.Engine) ([]compat.Proof, error) {
	var list []compat.Proof
	seen := make(map[string]bool)
	offers := make([][]*compat.Offer, len(f.Statics)) // of the first parent; all are alike
	for i, static := range f.Statics {
		offers[i] = engine.Offers(static)[:f.Size.Types]
	}
	for from := range f.Statics {
		for to := range f.Statics {
			if (from+to)%3 != 0 || from == to {
				continue
			}
			for _, home := range offers[from] {
				s := engine.Instance(home)
				for _, o := range offers[to] {
					if home.Type().TypeName != o.Type().TypeName {
						continue
					}
					p, err := engine.About(s, o)
					if err != nil {
						return nil, err
					}
					if seen[p.Key()] {
						continue
					}
					seen[p.Key()] = true
					p.Grade, p.Result, p.Controls, p.Tries, p.Time = compat.WorkingState, compat.Accepted, true, 2, taken
					list = append(list, p)
				}
			}
		}
	}
	return list, nil
}

// Name is what host number i is called.
func Name(i int) string { return fmt.Sprintf("r%04d-h%02d", i/40, i%40) }

// Host makes host number i as it is stored: which make it is, what its devices
// are and what room they leave.
func (f *Fleet) Host(i int) *inventory.Own {
	if f.Size.Plain {
		return f.plain(i)
	}
	r := rand.New(rand.NewPCG(f.seed, uint64(i)))
	// Racks are bought together: their hosts are of one generation.
	generation := rand.New(rand.NewPCG(f.seed+1, uint64(i/40))).IntN(generations)
	n := generation*16 + r.IntN(4)*4 + r.IntN(4)
	static := f.Statics[n]
	own := &inventory.Own{Static: f.Digests[n], Host: Name(i), Origin: inventory.FromSimulator, Taken: taken.Add(time.Duration(r.IntN(3600)) * time.Second)}
	used := make([]int, len(static.Parents))
	for d := range f.Size.Devices {
		p := r.IntN(len(static.Parents))
		t := r.IntN(len(static.Parents[p].Types))
		take := unitsOf(t)
		if used[p]+take > units {
			continue
		}
		used[p] += take
		own.Devices = append(own.Devices, device(i, d, &static.Parents[p], &static.Parents[p].Types[t], r.IntN(2) == 0))
	}
	// Some parents are full with what Kindred does not see.
	for p := range used {
		if r.IntN(3) == 0 {
			used[p] = units
		} else {
			used[p] += r.IntN(units - used[p] + 1)
		}
	}
	f.count(own, used)
	return own
}

// plain is host number i of a plain fleet.
func (f *Fleet) plain(i int) *inventory.Own {
	own := &inventory.Own{Static: f.Digests[0], Host: Name(i), Origin: inventory.FromSimulator, Taken: taken}
	used := make([]int, f.Size.Parents)
	if i == 0 {
		for d := range min(f.Size.Devices, f.Size.Parents) {
			p := &f.Statics[0].Parents[d]
			own.Devices = append(own.Devices, device(i, d, p, &p.Types[0], true))
			used[d] = unitsOf(0)
		}
	}
	f.count(own, used)
	return own
}

// count sets the counters by the units in use.
func (f *Fleet) count(own *inventory.Own, used []int) {
	creatable := make([]byte, 0, len(used)*f.Size.Types)
	for p := range used {
		for t := range f.Size.Types {
			count := (units - used[p]) / unitsOf(t)
			own.Available = append(own.Available, count)
			creatable = append(creatable, "ny"[min(count, 1)])
		}
	}
	own.Creatable = string(creatable)
}

// unitsOf is what an instance of type number t takes, by name.
func unitsOf(t int) int { return 1 << (t % sizes) }

func device(host, n int, p *inventory.Parent, t *inventory.Type, contract bool) inventory.Device {
	d := inventory.Device{
		ID: fmt.Sprintf("%08x-0000-4000-8000-%012x", host, n), Kind: inventory.Mdev, Parent: p.Name, Type: t.TypeName,
		Driver: inventory.Of("acme"), InUse: inventory.Yes, Attributes: inventory.Attributes{Complete: true},
	}
	if contract {
		d.Contract = &inventory.Contract{
			Type: t.TypeName, Label: t.Label, DeviceAPI: t.DeviceAPI, TypeAttributes: t.Attributes,
			DeviceAttributes: inventory.Attributes{Complete: true}, Host: Name(host), Recorded: taken,
		}
	}
	return d
}

// Idle is a host of make number n on which nothing is used.
func (f *Fleet) Idle(n int, name string) *inventory.Inventory {
	own := &inventory.Own{Static: f.Digests[n], Host: name, Origin: inventory.FromSimulator, Taken: taken}
	f.count(own, make([]int, f.Size.Parents))
	return inventory.Join(f.Statics[n], own)
}

// Inventory is host number i as a whole document.
func (f *Fleet) Inventory(i int) *inventory.Inventory {
	own := f.Host(i)
	return inventory.Join(f.Statics[f.makes[own.Static]], own)
}
