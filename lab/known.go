// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"fmt"
	"slices"
	"strings"
)

// KnownHosts are the hosts that people and tests mean by name.
//
//	a, b  the same: all three sample drivers, one build of each
//	c     another build of mtty, the same mdpy, no mbochs
//	vf    an SR-IOV NVMe controller with up to 4 VFs behind an IOMMU, none enabled
//	      yet, and vfio-pci to bind them to; no mediated device
//
// And for every build of the lab's own driver (lab/driver/builds) a host of the
// build's name, with two parents. Some are there a second time, with parameters:
//
//	gen8-open, gen9-open  publish what they are as type attributes
//	param1                the same build as param with the other stream layout
//	keep                  gen8 with state that survives a close, as mtty's does
func KnownHosts() []Host {
	return append(sampleHosts(), driverHosts()...)
}

func driverHosts() []Host {
	builds, err := DriverBuilds()
	if err != nil {
		panic(err) // the table is compiled in
	}
	var hosts []Host
	add := func(name, build, params string) {
		i := slices.IndexFunc(builds, func(b DriverBuild) bool { return b.Name == build })
		b := builds[i]
		h := Host{Name: name, Modules: []string{b.Module()}}
		if b.PCI {
			for i := range 2 {
				h.QEMUArgs = append(h.QEMUArgs, "-device", fmt.Sprintf("edu,addr=0x%x", 0x10+i))
			}
		} else {
			params += " parents=2"
		}
		if params != "" {
			h.Modules[0] += " " + strings.TrimSpace(params)
		}
		hosts = append(hosts, h)
	}
	for _, b := range builds {
		add(b.Name, b.Name, "")
	}
	add("gen8-open", "gen8", "describe=1")
	add("gen9-open", "gen9", "describe=1")
	add("param1", "param", "layout=1")
	add("keep", "gen8", "keep_state=1")
	return hosts
}

func sampleHosts() []Host {
	return []Host{
		{Name: "a", Modules: []string{"mtty", "mdpy", "mbochs"}},
		{Name: "b", Modules: []string{"mtty", "mdpy", "mbochs"}},
		{Name: "c", Modules: []string{"mtty-rebuilt", "mdpy"}},
		{
			Name:    "vf",
			Modules: []string{"nvme", "vfio_pci"},
			QEMUArgs: []string{
				"-machine", "q35,kernel-irqchip=split", "-device", "intel-iommu,intremap=on",
				"-device", "pcie-root-port,id=rp,chassis=1",
				"-device", "nvme-subsys,id=subsystem",
				// The VFs' queues and vectors come out of the flexible ones, which must be
				// enough for all; without sriov_*_flexible QEMU refuses sriov_max_vfs.
				"-device", "nvme,serial=lab,bus=rp,subsys=subsystem,sriov_max_vfs=4,sriov_vq_flexible=8,sriov_vi_flexible=4,max_ioqpairs=10,msix_qsize=9",
			},
			KernelArgs: []string{"intel_iommu=on"},
		},
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
