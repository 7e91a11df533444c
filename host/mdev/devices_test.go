// SPDX-License-Identifier: Apache-2.0

//go:build linux

package mdev

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"kindred/host/tree"
)

// TestDevices: whatever way the bus's links take, devices come by parent and
// name, each with the type its own directory shows.
func TestDevices(t *testing.T) {
	root := t.TempDir()
	link := func(name, target string) {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	const types = "../mdev_supported_types/"
	link("sys/devices/a/card/driver", "../../../bus/x/drivers/drv")
	link("sys/devices/b/card/driver", "../../../bus/x/drivers/other")
	link("sys/devices/b/card/subsystem", "../../../class/bus")
	link("sys/devices/a/aaa/subsystem", "../../../class/bus")
	link("sys/devices/a/card/1/mdev_type", types+"drv-one")
	link("sys/devices/a/card/2/mdev_type", types+"drv-two")
	link("sys/devices/a/card/3/mdev_type", types+"third-three")
	link("sys/devices/a/aaa/4/mdev_type", types+"bus-four")
	link("sys/devices/b/card/5/mdev_type", types+"bus-five")
	link("sys/devices/a/card/7/driver", "../nowhere")
	for id, target := range map[string]string{
		"1": "../../../devices/a/card/1", "2": "/sys/devices/a/card/2", "3": "../../../devices/a//card/x/../3",
		"4": "../../../devices/a/aaa/4", "5": "../../../devices/b/card/5/.", "6": "../../../devices/gone/6", "7": "../../../devices/a/card/7",
	} {
		link(devicesDir+"/"+id, target)
	}
	if err := os.WriteFile(filepath.Join(root, devicesDir, "8"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := tree.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var mu sync.Mutex
	var warned []string
	list, listed := Devices(d, Brief, func(name string, err error) {
		mu.Lock()
		defer mu.Unlock()
		warned = append(warned, name)
	})
	var got []string
	for _, dev := range list {
		got = append(got, dev.Parent+" "+dev.ID+" "+dev.Type.Namespace+":"+dev.Type.Name)
	}
	if want := "aaa 4 bus:four, card 1 drv:one, card 2 drv:two, card 3 :third-three, card 7 :, card 5 bus:five, gone 6 :"; strings.Join(got, ", ") != want || listed {
		t.Errorf("devices %s, all: %v; want %s, and one is missing", strings.Join(got, ", "), listed, want)
	}
	slices.Sort(warned)
	if want := "[sys/bus/mdev/devices/8 sys/devices/a/card/3/mdev_type sys/devices/a/card/7/mdev_type sys/devices/gone/6/mdev_type]"; fmt.Sprint(warned) != want {
		t.Errorf("warned of %v, want %s", warned, want)
	}
}
