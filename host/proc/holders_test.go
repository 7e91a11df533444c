// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"kindred/host/tree"
	"kindred/inventory"
)

// TestInUse tells from a copy of /proc who holds what.
func TestInUse(t *testing.T) {
	root := t.TempDir()
	link := func(name, target string) {
		path := filepath.Join(root, "proc", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	link("1/ns/pid", "pid:[4026531836]")
	link("1/fd/0", "/dev/null")
	link("100/fd/3", "/dev/vfio/7")
	link("100/fd/4", "/dev/vfio/7")
	link("200/fd/9", "/dev/vfio/devices/vfio3")
	link("200/fd/10", "anon_inode:[vfio-device]")
	link("300/fd/5", "/dev/vfio/devices/vfio4 (deleted)")
	link("self/fd/1", "/dev/vfio/8")
	d, err := tree.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	device := func(group, node inventory.Value) *inventory.Device {
		return &inventory.Device{Group: group, Node: node}
	}
	holders := ReadHolders(d)
	for _, c := range []struct {
		name string
		dev  *inventory.Device
		pids string
		want inventory.Answer
	}{
		{"by group", device(inventory.Of("7"), inventory.None()), "[100]", inventory.Yes},
		{"by node", device(inventory.Of("9"), inventory.Of("vfio3")), "[200]", inventory.Yes},
		{"by a node that is gone", device(inventory.Of("9"), inventory.Of("vfio4")), "[300]", inventory.Yes},
		{"idle", device(inventory.Of("70"), inventory.Of("vfio30")), "[]", inventory.No},
		{"of itself only in a link that is no process", device(inventory.Of("8"), inventory.None()), "[]", inventory.No},
		{"group not known", device(inventory.Value{}, inventory.None()), "[]", inventory.Unknown},
	} {
		if got, pids := holders.InUse(c.dev), fmt.Sprint(holders.PIDs(c.dev)); got != c.want || pids != c.pids {
			t.Errorf("%s: %s by %s, want %s by %s", c.name, got, pids, c.want, c.pids)
		}
	}
	// A container sees its own processes alone, and hidepid hides process 1.
	for _, namespace := range []string{"pid:[4026532201]", ""} {
		if err := os.Remove(filepath.Join(root, "proc/1/ns/pid")); err != nil {
			t.Fatal(err)
		}
		if namespace != "" {
			link("1/ns/pid", namespace)
		}
		partly := ReadHolders(d)
		if got := partly.InUse(device(inventory.Of("70"), inventory.None())); got != inventory.Unknown {
			t.Errorf("in PID namespace %q: %s, want unknown", namespace, got)
		}
		if got := partly.InUse(device(inventory.Of("7"), inventory.None())); got != inventory.Yes {
			t.Errorf("in PID namespace %q: %s for a device that is seen held", namespace, got)
		}
	}
	// Where processes cannot be seen, "not found" is not "not held".
	if err := os.RemoveAll(filepath.Join(root, "proc")); err != nil {
		t.Fatal(err)
	}
	if got := ReadHolders(d).InUse(device(inventory.Of("70"), inventory.None())); got != inventory.Unknown {
		t.Errorf("without /proc: %s, want unknown", got)
	}
}
