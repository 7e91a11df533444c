// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import "slices"

// KnownHosts are the hosts that people and tests mean by name.
//
//	a, b  the same: all three sample drivers, one build of each
//	c     another build of mtty, the same mdpy, no mbochs
//	vf    an SR-IOV NVMe controller with up to 4 VFs behind an IOMMU, none enabled
//	      yet, and vfio-pci to bind them to; no mediated device
func KnownHosts() []Host {
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
