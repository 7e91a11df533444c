// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import "slices"

// KnownHosts are the hosts that people and tests mean by name.
//
//	a, b  the same: all three sample drivers, one build of each
//	c     another build of mtty, the same mdpy, no mbochs
func KnownHosts() []Host {
	return []Host{
		{Name: "a", Modules: []string{"mtty", "mdpy", "mbochs"}},
		{Name: "b", Modules: []string{"mtty", "mdpy", "mbochs"}},
		{Name: "c", Modules: []string{"mtty-rebuilt", "mdpy"}},
	}
}

// KnownHost is the one of [KnownHosts] with this name.
func KnownHost(name string) (Host, bool) {
	hosts := KnownHosts()
	i := slices.IndexFunc(hosts, func(h Host) bool { return h.Name == name })
	if i < 0 {
		return Host{}, false
	}
	return hosts[i], true
}
