// SPDX-License-Identifier: Apache-2.0

// Package synth writes synthetic sysfs trees of machines with mediated
// devices, to measure on.
//
// A tree has what a reader of the mdev bus meets on a real machine: parents
// that are PCI functions bound to the driver nvidia, listed on the PCI bus and
// in the class mdev_bus, with types; devices spread evenly over parents and
// types, listed on the mdev bus and in their types' directories. All links are
// relative, so that the tree's sys can be mounted over /sys. Parents lie
// directly below their PCI root, without the bridges that most machines have:
// a program that resolves whole paths pays for every level, and the
// measurement is not to be won by depth.
//
// Files are on whatever file system the tree is written to. Sysfs is slower,
// because every read there calls a driver; what is measured here is the
// program and its system calls.
package synth

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Spec says how large a tree is.
type Spec struct {
	Parents int
	Types   int // of each parent
	Devices int // of all parents together
}

func (s Spec) String() string {
	return fmt.Sprintf("%d×%d×%d", s.Parents, s.Types, s.Devices)
}

// Standard are the trees that Kindred's speed is judged on.
var Standard = []Spec{{64, 20, 500}, {64, 20, 5000}, {256, 40, 4096}}

// TempDir makes a new directory in memory where the system has a place for
// that, and where temporary files go otherwise. The caller removes it.
func TempDir() (string, error) {
	base := "/dev/shm"
	if info, err := os.Stat(base); err != nil || !info.IsDir() {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "kindred-bench-")
	if err != nil && base != "" {
		dir, err = os.MkdirTemp("", "kindred-bench-")
	}
	if err != nil {
		return "", fmt.Errorf("make a directory for synthetic trees (set TMPDIR to one that can be written): %w", err)
	}
	return dir, nil
}

// Write writes the tree below root, which it makes.
func (s Spec) Write(root string) error {
	t := &writer{sys: filepath.Join(root, "sys")}
	for _, dir := range []string{"class/mdev_bus", "bus/mdev/devices", "bus/mdev/drivers/nvidia-vgpu-vfio", "bus/pci/devices", "bus/pci/drivers/nvidia", "kernel/iommu_groups"} {
		t.dir(dir)
	}
	for p := range s.Parents {
		t.parent(p, s.Types)
	}
	for d := range s.Devices {
		t.device(d, s)
	}
	if t.err != nil {
		return fmt.Errorf("write the synthetic tree %v: %w", s, t.err)
	}
	return nil
}

// Address is the PCI address of parent number p.
func Address(p int) string { return fmt.Sprintf("%04x:%02x:00.0", p/255, p%255+1) }

// TypeName is the directory name of type number t.
func TypeName(t int) string { return fmt.Sprintf("nvidia-%d", 600+t) }

// ID is the UUID of device number d: the same in every run.
func ID(d int) string {
	h := sha256.Sum256(fmt.Appendf(nil, "kindred synthetic device %d", d))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80 // RFC 9562, version 8
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// parentDir is the parent's directory below sys.
func parentDir(p int) string { return fmt.Sprintf("devices/pci%04x:00/%s", p/255, Address(p)) }

// writer keeps the first error.
type writer struct {
	sys string
	err error
}

func (w *writer) dir(name string) {
	if w.err == nil {
		w.err = os.MkdirAll(filepath.Join(w.sys, name), 0o755)
	}
}

func (w *writer) file(name, text string, mode os.FileMode) {
	if w.err == nil {
		w.err = os.WriteFile(filepath.Join(w.sys, name), []byte(text), mode)
	}
}

// link makes a relative link at name to target, both below sys.
func (w *writer) link(name, target string) {
	if w.err == nil {
		w.err = os.Symlink(strings.Repeat("../", strings.Count(name, "/"))+target, filepath.Join(w.sys, name))
	}
}

func (w *writer) parent(p, types int) {
	dir := parentDir(p)
	w.dir(dir)
	for name, text := range map[string]string{
		"vendor": "0x10de", "device": "0x2236", "subsystem_vendor": "0x10de", "subsystem_device": "0x1482",
		"class": "0x030200", "revision": "0xa1", "numa_node": fmt.Sprint(p % 2),
	} {
		w.file(dir+"/"+name, text+"\n", 0o444)
	}
	group := fmt.Sprintf("kernel/iommu_groups/%d", p)
	w.dir(group)
	w.link(dir+"/iommu_group", group)
	w.link(dir+"/driver", "bus/pci/drivers/nvidia")
	w.link(dir+"/subsystem", "bus/pci")
	w.link("bus/pci/drivers/nvidia/"+Address(p), dir)
	w.link("bus/pci/devices/"+Address(p), dir)
	w.link("class/mdev_bus/"+Address(p), dir)
	for t := range types {
		typeDir := dir + "/mdev_supported_types/" + TypeName(t)
		w.dir(typeDir + "/devices")
		w.file(typeDir+"/available_instances", fmt.Sprintf("%d\n", 16-t%17), 0o444)
		w.file(typeDir+"/device_api", "vfio-pci\n", 0o444)
		w.file(typeDir+"/name", fmt.Sprintf("GRID A10-%dQ\n", t+1), 0o444)
		w.file(typeDir+"/description", fmt.Sprintf("num_heads=%d, frl_config=60, framebuffer=%dM, max_resolution=5120x2880, max_instance=%d\n",
			1+t%4, 1024*(t+1), max(24/(t+1), 1)), 0o444)
		w.file(typeDir+"/create", "", 0o200)
	}
}

func (w *writer) device(d int, s Spec) {
	parent := parentDir(d % s.Parents)
	typeDir := parent + "/mdev_supported_types/" + TypeName(d/s.Parents%s.Types)
	dir := parent + "/" + ID(d)
	w.dir(dir)
	w.file(dir+"/remove", "", 0o200)
	w.link(dir+"/mdev_type", typeDir)
	w.link(dir+"/driver", "bus/mdev/drivers/nvidia-vgpu-vfio")
	w.link(dir+"/subsystem", "bus/mdev")
	w.link(typeDir+"/devices/"+ID(d), dir)
	w.link("bus/mdev/devices/"+ID(d), dir)
}
