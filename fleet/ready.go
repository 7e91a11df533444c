// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"strconv"
	"strings"

	"kindred/inventory"
)

// Condition is one thing besides compatibility and room that a move needs.
type Condition struct {
	Code   Code             `json:"code"` // ready.qemu, ready.libvirt
	Met    inventory.Answer `json:"met"`
	Detail string           `json:"detail"`
}

// The versions since which VFIO migration v2 works: QEMU 8.1 sets it up by
// default, libvirt 8.6 lets the target's device address differ. OpenStack
// Nova 2024.1 asks for the same.
const (
	oldestQEMU    = "8.1"
	oldestLibvirt = "8.6"
)

// readiness judges the VM managers. A host without one is no target for a VM
// of a host that has one; where neither has one, the VM manager is not on
// these hosts and there is nothing to judge.
func readiness(source, target *inventory.Inventory) []Condition {
	return []Condition{
		manager(ReadyQEMU, "QEMU", oldestQEMU, source.Host.QEMU, target.Host.QEMU),
		manager(ReadyLibvirt, "libvirt", oldestLibvirt, source.Host.Libvirt, target.Host.Libvirt),
	}
}

func manager(code Code, name, oldest string, source, target inventory.Value) Condition {
	c := Condition{Code: code, Met: inventory.Yes}
	switch {
	case source.State() == inventory.Absent && target.State() == inventory.Absent:
		c.Detail = name + " is on neither host"
	case source.State() == inventory.NotObserved && target.State() == inventory.NotObserved:
		c.Detail = name + " was looked for on neither host"
	case target.State() == inventory.Absent && source.State() == inventory.Present:
		c.Met, c.Detail = inventory.No, name+" is not installed there"
	case target.State() == inventory.Present && olderVersion(target.Text(), oldest):
		c.Met, c.Detail = inventory.No, name+" "+target.Text()+" is too old: VFIO migration needs "+oldest
	case target.State() == inventory.Present && source.State() == inventory.Present && olderVersion(target.Text(), source.Text()):
		c.Met, c.Detail = inventory.Unknown, name+" "+target.Text()+" is older than the source's "+source.Text()
	case target.State() == inventory.NotObserved:
		c.Met, c.Detail = inventory.Unknown, name+" was not looked for there"
	default:
		c.Detail = name + " " + target.String()
	}
	return c
}

// olderVersion compares dotted numbers.
func olderVersion(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		var x, y int
		if i < len(as) {
			x, _ = strconv.Atoi(as[i])
		}
		if i < len(bs) {
			y, _ = strconv.Atoi(bs[i])
		}
		if x != y {
			return x < y
		}
	}
	return false
}
