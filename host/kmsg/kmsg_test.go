// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kmsg

import (
	"slices"
	"testing"
)

func TestMessage(t *testing.T) {
	for record, want := range map[string]string{
		"6,339,5140900,-;kdx 0000:00:10.0: minor 1.2 is newer than 1.1\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:10.0\n": "kdx 0000:00:10.0: minor 1.2 is newer than 1.1",
		"4,1,2,c,caller=T1;a;b":     "a;b",
		"7,160,424069,-;":           "",
		"no record of the kernel's": "",
	} {
		if got, _ := message(record); got != want {
			t.Errorf("%q gives %q, want %q", record, got, want)
		}
	}
	if got := About([]string{"mtty: refused", "eth0: up", "vfio: x"}, []string{"mtty", "", "vfio"}); !slices.Equal(got, []string{"mtty: refused", "vfio: x"}) {
		t.Error(got)
	}
}
