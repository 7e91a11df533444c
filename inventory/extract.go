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
	out := inv.part(p, d.Type)
	out.Devices = []Device{*d}
	return out, nil
}

// ExtractType is the part of the inventory that decides what can go to one type
// of one parent: as [Inventory.Extract], without a device.
func (inv *Inventory) ExtractType(parent string, name TypeName) (*Inventory, error) {
	p := inv.Parent(parent)
	if p == nil || p.Type(name) == nil {
		return nil, &Error{Where: "parent " + parent, Problem: fmt.Sprintf("it does not offer %s on %s", name.Full(), inv.Host.Name)}
	}
	return inv.part(p, name), nil
}

// part has one parent with one of its types, and no device.
func (inv *Inventory) part(p *Parent, name TypeName) *Inventory {
	parent := *p
	parent.Types, parent.TypesUnread = nil, true
	if t := p.Type(name); t != nil {
		parent.Types = []Type{*t}
	}
	out := *inv
	out.Parents, out.ParentsUnread = []Parent{parent}, true
	out.Devices, out.DevicesUnread = nil, true
	out.Warnings = nil
	return &out
}
