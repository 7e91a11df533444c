// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestVirtualFunctions binds VFs to vfio-pci as an operator would.
func TestVirtualFunctions(t *testing.T) {
	ctx, a := needLab(t)
	g := bootAll(ctx, t, a, known(t, "vf"))[0]
	pf := sh(ctx, t, g.Client, "dirname /sys/bus/pci/devices/*/sriov_totalvfs")
	if got := sh(ctx, t, g.Client, "cd "+pf+"; cat sriov_totalvfs sriov_numvfs; basename $(readlink driver)"); got != "4\n0\nnvme" {
		t.Fatalf("the PF: total, enabled, driver = %q, want 4, 0, nvme", got)
	}
	// Without autoprobe nvme does not take the VFs before they are meant for another;
	// a driver_override lets exactly that one have them all the same.
	sh(ctx, t, g.Client, "cd "+pf+"; echo 0 > sriov_drivers_autoprobe; echo 2 > sriov_numvfs")
	if got := sh(ctx, t, g.Client, "cd "+pf+"; for v in virtfn*; do test ! -e $v/driver && basename $(readlink -f $v/physfn); done"); got != lines(pciName(pf), pciName(pf)) {
		t.Errorf("unbound VFs point back to %q, want two times %s", got, pciName(pf))
	}
	sh(ctx, t, g.Client, "cd "+pf+`; for v in virtfn*; do
		echo vfio-pci > $v/driver_override
		basename $(readlink $v) > /sys/bus/pci/drivers_probe
	done`)
	for _, vf := range []string{"virtfn0", "virtfn1"} {
		got := strings.Fields(sh(ctx, t, g.Client, "cd "+pf+"/"+vf+`
			basename $(readlink driver)
			ls vfio-dev | sed 's/[0-9]*$/N/'
			ls vfio-dev/vfio*
			basename $(readlink -f physfn)
			cat iommu_group/type
			test -c /dev/vfio/$(basename $(readlink iommu_group)) && echo node`))
		want := []string{"vfio-pci", "vfioN", "device", "power", "subsystem", "uevent", pciName(pf), "DMA-FQ", "node"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", vf, diff)
		}
	}
}

func pciName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

func lines(s ...string) string { return strings.Join(s, "\n") }
