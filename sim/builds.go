// SPDX-License-Identifier: Apache-2.0

package sim

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// Namespace is the one of the drivers here.
const Namespace = "ksim"

// Catalog is what is known of the drivers here, as a vendor would write it. It
// is not built into Kindred: no kernel has them.
//
//go:embed ksim.yaml
var Catalog []byte

const (
	featureFill = 1 << iota
	featureHash
	featureMix
	featureSwap
)

// v4 is the interface that every build offers, v5 the one of a newer
// generation.
func v4(version string) Type {
	return Type{
		Name: "V4", Label: "Simulated accelerator, generation 4", Units: 4,
		Attributes: map[string]string{"software_version": version, "features": "fill,hash,mix"}, DeviceAttributes: map[string]string{"weight": "1"},
		Vendor: 0x1234, Device: 0x5104, Class: 0x120000, Features: featureFill | featureHash | featureMix, Memory: 1 << 20,
	}
}

func v5(version string) Type {
	t := v4(version)
	t.Name, t.Label, t.Device = "V5", "Simulated accelerator, generation 5", 0x5105
	t.Attributes["features"], t.Features = "fill,hash,mix,swap", t.Features|featureSwap
	return t
}

// builds are the driver's releases: what each is, beside what all are.
var builds = map[string]func(d *Driver){
	// The old generation, and a newer one that offers the old type too.
	"gen8": func(d *Driver) {},
	"gen9": func(d *Driver) { d.Types = append(d.Types, v5("1.0.0")) },
	// Releases of the old one: rebuilt, a newer minor, a newer major.
	"rel10": func(d *Driver) {},
	"rel11": func(d *Driver) { d.Types[0] = v4("1.1.0"); d.Migration.Minor = 1 },
	"rel20": func(d *Driver) { d.Types[0] = v4("2.0.0"); d.Migration.Major, d.Migration.Minor = 2, 0 },
	// Takes both majors.
	"rel21": func(d *Driver) {
		d.Types[0] = v4("2.1.0")
		d.Migration.Major, d.Migration.Minor, d.Migration.Takes = 2, 1, []Window{{1, 1}, {2, 1}}
	},
	"poor": func(d *Driver) {
		d.Types[0].Features &^= featureMix
		d.Types[0].Attributes["features"] = "fill,hash"
	},
	// Faulty ones.
	"bad11":    func(d *Driver) { d.Types[0] = v4("1.1.0"); d.Migration.Minor, d.Migration.BadSum = 1, true },
	"blind":    func(d *Driver) { d.Migration.IgnoresSum = true },
	"anything": func(d *Driver) { d.Migration.TakesAnything = true },
	"cut":      func(d *Driver) { d.Migration.TakesTruncated = true },
	"forgets": func(d *Driver) {
		d.Migration.Forgets, d.Migration.KeepsState, d.Migration.PreCopyZero, d.Migration.Refusal = true, true, true, unix.EFAULT
	},
	// Firmware with another order inside, of which the stream says nothing, as pds's
	// could have.
	"swap":  func(d *Driver) { d.Migration.Shuffles, d.Migration.IgnoresSum = true, true },
	"nomig": func(d *Driver) { d.Migration.None = true },
}

// BuildNames lists the builds that Build makes, sorted.
func BuildNames() []string { return slices.Sorted(maps.Keys(builds)) }

// Build makes one of the driver's builds; each is a module of its own.
func Build(name string) (*Driver, error) {
	change := builds[name]
	if change == nil {
		return nil, fmt.Errorf("there is no build %q of the simulated driver: it is one of %q", name, BuildNames())
	}
	d := &Driver{Namespace: Namespace, Module: Namespace + "_" + name, Types: []Type{v4("1.0.0")}}
	d.Migration.Major = 1
	change(d)
	return d, nil
}

// Fleet makes a machine for each of the builds, of the build's name, with one
// parent sim0 of 16 units: an instance takes 4. Without names it is all builds.
func Fleet(names ...string) ([]*Machine, error) {
	if len(names) == 0 {
		names = BuildNames()
	}
	var list []*Machine
	for _, name := range names {
		d, err := Build(name)
		if err != nil {
			return nil, err
		}
		m, err := New(Setup{Name: name, Parents: []Parent{{Name: "sim0", Driver: d}}})
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}
