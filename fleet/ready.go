// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"slices"
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
func readiness(qemu, libvirt inventory.Value, target *layout) []Condition {
	return []Condition{
		manager(ReadyQEMU, "QEMU", oldestQEMU, qemu, target.qemu),
		manager(ReadyLibvirt, "libvirt", oldestLibvirt, libvirt, target.libvirt),
	}
}

// met is the answer to all conditions together.
func met(conditions []Condition) inventory.Answer {
	all := inventory.Yes
	for _, c := range conditions {
		switch {
		case c.Met == inventory.No:
			return inventory.No
		case c.Met == inventory.Unknown:
			all = inventory.Unknown
		}
	}
	return all
}

func manager(code Code, name, oldest string, source, target inventory.Value) Condition {
	met := func(answer inventory.Answer, detail string) Condition {
		return Condition{code, answer, name + " " + detail}
	}
	switch target.State() {
	case inventory.NotObserved:
		return met(inventory.Unknown, "was not looked for there")
	case inventory.Absent:
		switch source.State() {
		case inventory.Absent:
			return met(inventory.Yes, "is on neither host")
		case inventory.Present:
			return met(inventory.No, "is not installed there")
		}
		return met(inventory.Unknown, "is not installed there, and was not looked for on the source")
	}
	there, ok := parseVersion(target.Text())
	needed, _ := parseVersion(oldest)
	switch {
	case !ok:
		return met(inventory.Unknown, target.Text()+" is no version that can be compared")
	case slices.Compare(there, needed) < 0:
		return met(inventory.No, target.Text()+" is too old: VFIO migration needs "+oldest)
	case source.State() == inventory.Absent:
		return met(inventory.Yes, target.Text())
	}
	here, ok := parseVersion(source.Text())
	switch {
	case source.State() == inventory.NotObserved:
		return met(inventory.Unknown, target.Text()+" is there, and was not looked for on the source")
	case !ok:
		return met(inventory.Unknown, source.Text()+" on the source is no version that can be compared")
	case slices.Compare(there, here) < 0:
		return met(inventory.Unknown, target.Text()+" is older than the source's "+source.Text())
	}
	return met(inventory.Yes, target.Text())
}

// parseVersion reads dotted numbers; 8.1 and 8.1.0 are the same.
func parseVersion(text string) (numbers []int, ok bool) {
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil, false
		}
		numbers = append(numbers, n)
	}
	for len(numbers) > 1 && numbers[len(numbers)-1] == 0 {
		numbers = numbers[:len(numbers)-1]
	}
	return numbers, true
}
