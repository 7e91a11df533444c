// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"slices"
)

// WhatIf is what would become of a fleet's devices.
type WhatIf struct {
	Simulated bool         `json:"simulated,omitempty"` // some of these hosts do not exist
	Changes   []string     `json:"changes"`
	Hosts     [2]int       `json:"hosts"`            // before and after
	Silent    int          `json:"silent,omitempty"` // hosts that do not report; they and their devices are left out
	Devices   [2]int       `json:"devices"`          // before and after
	Stranded  []DeviceTurn `json:"stranded"`         // that had a host to go to and would have none
	Freed     []DeviceTurn `json:"freed"`            // that had none and would have one
	Fewer     int          `json:"fewer"`            // other devices that would reach fewer hosts
	More      int          `json:"more"`             // other devices that would reach more
	Gone      []string     `json:"gone"`             // devices that would go with their host or parent, as HOST/DEVICE
	Canaries  []Canary     `json:"canaries"`         // what would settle the unknowns there would be
}

// DeviceTurn is how far a device reaches, before and after.
type DeviceTurn struct {
	Device  string `json:"device"`
	Host    string `json:"host"`
	Ready   [2]int `json:"ready"`   // hosts
	Unknown [2]int `json:"unknown"` // hosts that would perhaps take it
}

// WhatIf answers by reach, on a copy.
func (f *Fleet) WhatIf(s Supposition) (*WhatIf, error) {
	next, err := f.Suppose(s)
	if err != nil {
		return nil, err
	}
	answer := &WhatIf{
		Simulated: f.simulated > 0 || next.simulated > 0, Changes: []string{}, Hosts: [2]int{f.hosts.size, next.hosts.size},
		Devices: [2]int{f.ids.size, next.ids.size}, Stranded: []DeviceTurn{}, Freed: []DeviceTurn{}, Gone: []string{}, Canaries: next.Canaries(),
	}
	for _, c := range s.Changes {
		answer.Changes = append(answer.Changes, c.String())
	}
	before, after := f.reacher(), next.reacher()
	for h := range f.hosts.all {
		if f.ended() {
			break
		}
		there := next.host(h.name)
		for at := range h.devices {
			id := h.devices[at].id
			n := -1
			if there != nil {
				n = slices.IndexFunc(there.devices, func(d device) bool { return d.id == id })
			}
			if n < 0 {
				answer.Gone = append(answer.Gone, h.name+"/"+id)
				continue
			}
			was, is := before.turn(h, at), after.turn(there, n)
			turn := DeviceTurn{id, h.name, [2]int{was[0], is[0]}, [2]int{was[2], is[2]}}
			switch {
			case was[0] > 0 && is[0] == 0:
				answer.Stranded = append(answer.Stranded, turn)
			case was[0] == 0 && is[0] > 0:
				answer.Freed = append(answer.Freed, turn)
			case is[0] < was[0]:
				answer.Fewer++
			case is[0] > was[0]:
				answer.More++
			}
		}
	}
	slices.SortStableFunc(answer.Freed, func(a, b DeviceTurn) int { return cmp.Compare(a.Host, b.Host) })
	return answer, nil
}

// turn is how many hosts are in each group for a device, its own left out.
func (r *reacher) turn(h *host, at int) [4]int {
	c := h.devices[at].class
	hosts := r.kind(c).hosts
	hosts[r.group(h, c)]--
	return hosts
}
