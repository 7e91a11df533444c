// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"kindred/inventory"
)

var (
	separated  = pattern(`[-_. ]+`)
	generation = pattern(`(?i)^(v|ver|version|gen|generation|rev|r|hw|mk)[0-9]+$`)
	numbered   = pattern(`(?i)^(type|profile|model|kind|config|class|mode|t|p|m)?[-_ ]?[0-9]+$`)
	notSlug    = pattern(`[^a-z0-9]+`)
)

// pattern is compiled when first needed: the program's other commands start
// without it.
func pattern(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// withoutGeneration is a name with its generations left out, and those.
func withoutGeneration(name string) (rest, generations string) {
	var kept, left []string
	for _, part := range separated().Split(name, -1) {
		if generation().MatchString(part) {
			left = append(left, part)
		} else {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "-"), strings.Join(left, " ")
}

// generationsOf reports whether two names differ in their generations alone.
func generationsOf(a, b string) bool {
	restA, genA := withoutGeneration(a)
	restB, genB := withoutGeneration(b)
	return restA == restB && restA != "" && !strings.EqualFold(genA, genB)
}

// generic are namespaces that say nothing of whose driver it is: words of the
// field, and the buses and classes that stand in for a driver that is missing.
var generic = []string{
	"accel", "accelerator", "bus", "ccw", "class", "crypto", "css", "default", "device", "driver", "gpu", "mdev", "misc", "net",
	"nic", "nvme", "pci", "platform", "sample", "storage", "test", "vdev", "vf", "vfio", "vfio-pci", "vfio_pci", "vgpu", "virtual", "vnic",
}

func isGeneric(namespace string) bool { return slices.Contains(generic, strings.ToLower(namespace)) }

// saysWhat is what tells people what a type is, besides its name.
func saysWhat(t *inventory.Type) (where, text string) {
	if label, ok := t.Label.Get(); ok && label != "" && label != t.Name && label != t.Full() && !numbered().MatchString(label) {
		return "its label", label
	}
	if text, ok := t.Description.Get(); ok && text != "" {
		return "its description", strings.Join(strings.Fields(text), " ")
	}
	names := presentNames(&t.Attributes)
	if len(names) == 0 {
		return "", ""
	}
	return "its attributes", names[0] + " " + t.Attributes.Get(names[0]).Text()
}

// slug is text as a name.
func slug(text string) string {
	return strings.Trim(notSlug().ReplaceAllString(strings.ToLower(text), "-"), "-")
}

func presentNames(a *inventory.Attributes) []string {
	var names []string
	for name, v := range a.Values {
		if v.State() == inventory.Present {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// oneInterface reports whether nothing that is known tells two types apart, and
// something is known: with no attributes, equal names of an API show nothing.
func oneInterface(a, b *inventory.Type) bool {
	if a.DeviceAPI != b.DeviceAPI || a.DeviceAPI.State() != inventory.Present || a.Description != b.Description {
		return false
	}
	if !a.Attributes.Complete || !b.Attributes.Complete || len(a.Attributes.Unread)+len(b.Attributes.Unread) > 0 {
		return false
	}
	names := presentNames(&a.Attributes)
	if len(names) == 0 || !slices.Equal(names, presentNames(&b.Attributes)) {
		return false
	}
	return !slices.ContainsFunc(names, func(name string) bool { return a.Attributes.Get(name) != b.Attributes.Get(name) })
}
