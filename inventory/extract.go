// SPDX-License-Identifier: Apache-2.0

package inventory

import "fmt"

// Extract is the part of the inventory that decides where one device can go:
// the host, the device, its parent with the one type it was created as, and
// every module that takes part. Which of the modules make a build is for a
// catalog to say, perhaps one that is not written yet, so they are all kept.
//
// What it leaves out it does not deny: the lists of parents, types and devices
// say that there may be more. Warnings stay behind; a fact that was not
// observed says so where it is missing. The result shares what it holds with
// inv.
func (inv *Inventory) Extract(device string) (*Inventory, error) {
	d := inv.Device(device)
	if d == nil {
		return nil, &Error{Where: "device " + device, Problem: fmt.Sprintf("not in the inventory of %s", inv.Host.Name)}
	}
	p := inv.Parent(d.Parent)
	if p == nil {
		return nil, &Error{Where: "device " + d.ID, Problem: fmt.Sprintf("its parent %q is not in the inventory of %s", d.Parent, inv.Host.Name)}
	}
	parent := *p
	parent.Types, parent.TypesUnread = nil, true
	if t := p.Type(d.Type); t != nil {
		parent.Types = []Type{*t}
	}
	out := *inv
	out.Parents, out.ParentsUnread = []Parent{parent}, true
	out.Devices, out.DevicesUnread = []Device{*d}, true
	out.Warnings = nil
	return &out, nil
}
