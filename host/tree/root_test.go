// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tree

import "testing"

// TestInSysfs: only of sysfs's own files, on the live machine, the runtime is not told
// that the kernel may wait.
func TestInSysfs(t *testing.T) {
	live, copied := &root{live: true}, &root{}
	for _, c := range []struct {
		root *root
		name string
		want bool
	}{
		{live, "sys/class/mdev_bus", true},
		{live, "sys/devices/pci0000:00/0000:00:02.0/mdev_supported_types", true},
		{live, "sys/module/mtty/srcversion", true},
		{live, "sys/kernel/debug/vfio", false},
		{live, "sys/fs/cgroup/cgroup.procs", false},
		{live, "sys/firmware/efi/efivars", false},
		{live, "sys/classes/a", false},
		{live, "sys", false},
		{live, "system/file", false},
		{live, "proc/sys/kernel/osrelease", false},
		{live, "var/lib/kindred", false},
		{live, ".", false},
		{copied, "sys/class/mdev_bus", false},
		{&root{live: true, sub: true, own: true}, "nvidia-1/name", true},
		{&root{live: true, sub: true}, "sys/name", false},
	} {
		if got := c.root.inSysfs(c.name); got != c.want {
			t.Errorf("%q of %+v: %v", c.name, c.root, got)
		}
	}
}

// TestSubOfSysfs: what is opened below the live machine's sysfs is known to be there,
// and reads and lists as the whole path does.
func TestSubOfSysfs(t *testing.T) {
	d, err := Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const dir = "sys/devices/system/cpu"
	whole, err := d.ReadFile(dir + "/possible")
	if err != nil {
		t.Skipf("no %s here: %v", dir, err)
	}
	for name, own := range map[string]bool{dir: true, "proc/self": false} {
		sub, err := d.Sub(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := sub.(*root).own; got != own {
			t.Errorf("%s is in sysfs: %v", name, got)
		}
		if own {
			got, err := sub.ReadAttr("possible")
			if err != nil || string(got) != string(whole) {
				t.Errorf("%q, %v; the whole path has %q", got, err, whole)
			}
			a, errA := sub.ReadDir(".")
			b, errB := d.ReadDir(dir)
			if errA != nil || errB != nil || len(a) != len(b) || len(a) == 0 {
				t.Errorf("%d entries, %v; the whole path has %d, %v", len(a), errA, len(b), errB)
			}
		}
		if err := sub.Close(); err != nil {
			t.Error(err)
		}
	}
}
