// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"errors"
	"io/fs"
	"testing"

	"kindred/inventory"
)

// TestVFIOByCdev is what Debian's kernels cannot show: devices with a file of
// their own, and their state in debugfs.
func TestVFIOByCdev(t *testing.T) {
	ctx, _ := needLab(t)
	a, err := IOMMUFD(ctx, "", t.Logf)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("VFIO by cdev and iommufd was not tried: make lab-iommufd builds the kernel for it, in ten minutes")
	}
	if err != nil {
		t.Fatal(err)
	}
	g := bootAll(ctx, t, a, Host{Name: "cdev", Modules: []string{"mtty", "mdpy"}})[0]
	installTransfer(ctx, t, g)
	installKindred(ctx, t, g)
	withDevices(ctx, t, g, "mtty-2", func() {
		for _, path := range []string{"cdev", "group", ""} {
			t.Run("path "+path, func(t *testing.T) { vfioMttyWith(ctx, t, g, "-path", path) })
		}
		for _, holder := range []string{"cdev", "group", ""} {
			sh(ctx, t, g.Client, `rm -f /tmp/hold /tmp/end; mkfifo /tmp/end
				transfer hold -path "`+holder+`" `+sourceDevice+` </tmp/end >/dev/null 2>&1 &
				sleep 600 >/tmp/end 2>/dev/null & echo $! >/tmp/holder
				n=0; until test -e /tmp/hold; do n=$((n+1)); test $n -lt 6000; usleep 10000; done`)
			for _, path := range []string{"cdev", "group"} {
				if r := transfer(ctx, t, g, "info", "-path", path, sourceDevice); r.Failed != "busy" {
					t.Errorf("by %s while it is held by %q: %+v", path, holder, r)
				}
			}
			sh(ctx, t, g.Client, `kill $(cat /tmp/holder); n=0
				while pidof transfer >/dev/null; do n=$((n+1)); test $n -lt 6000; usleep 10000; done`)
		}
		// Nobody is asked, and no device is opened.
		for _, d := range inspect(ctx, t, g).Devices {
			if d.Migration == nil || d.Migration.Can != inventory.Yes || d.Migration.Source != "debugfs" {
				t.Errorf("debugfs shows %+v", d.Migration)
			}
		}
	}, sourceDevice, targetDevice)
	withDevices(ctx, t, g, "mdpy-xga", func() {
		if r := transfer(ctx, t, g, "info", "-path", "cdev", sourceDevice); r.Failed != "not migratable" || r.API != "vfio-pci" {
			t.Errorf("mdpy: %+v", r)
		}
	}, sourceDevice)
	cleanLog(ctx, t, g)
}
