// SPDX-License-Identifier: Apache-2.0

//go:build linux

package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kindred/host/record"
	"kindred/host/tree"
)

// machine is a machine on files that acts on what is written as the kernel
// does: an mdev parent "card" whose types share two places, a card 0000:01:00.0
// with two VFs and drivers net and var_vfio_pci, one 0000:02:00.0 with NVIDIA's VF.
type machine struct {
	tree.Dir
	t    *testing.T
	root string

	mu       sync.Mutex
	places   int
	count    uint64            // of instances that were made
	inode    map[string]uint64 // by directory
	settings map[string]string
	writes   int
	killAt   int                           // the write before which the process dies; 0: never
	refuse   func(name, text string) error // instead of acting
}

// killed is what the process dies of.
type killed struct{}

func newMachine(t *testing.T) (*machine, *Host) {
	t.Helper()
	m := &machine{t: t, root: t.TempDir(), places: 2, inode: map[string]uint64{}, settings: map[string]string{"mac": "00:00:00:00:00:00", "vlan": "0", "migratable": "disable"}}
	for _, typ := range []string{"drv-a", "drv-b"} {
		dir := "sys/devices/card/mdev_supported_types/" + typ
		for name, text := range map[string]string{"create": "", "name": typ, "device_api": "vfio-pci\n", "available_instances": "2\n"} {
			m.file(dir+"/"+name, text)
		}
	}
	m.link("sys/class/mdev_bus/card", "../../devices/card")
	m.link("sys/devices/card/driver", "../../bus/x/drivers/drv")
	m.dir("sys/bus/mdev/devices")
	for _, driver := range []string{"net", "var_vfio_pci", "nvidia"} {
		m.file("sys/bus/pci/drivers/"+driver+"/bind", "")
		m.file("sys/bus/pci/drivers/"+driver+"/unbind", "")
	}
	for _, address := range []string{"0000:01:00.0", "0000:01:00.1", "0000:01:00.2", "0000:02:00.0", "0000:02:00.1"} {
		dir := "sys/devices/pci/" + address
		for name, text := range map[string]string{"vendor": "0x1234\n", "device": "0x0010\n", "subsystem_vendor": "0x1234\n", "subsystem_device": "0x0001\n", "class": "0x020000\n", "revision": "0x01\n",
			"driver_override": "(null)\n", "resource": strings.Repeat("0x0 0x0 0x0\n", 6)} {
			m.file(dir+"/"+name, text)
		}
		m.link("sys/bus/pci/devices/"+address, "../../../devices/pci/"+address)
		m.link(dir+"/iommu_group", "../../../kernel/iommu_groups/"+address[5:7]+address[11:])
		if !strings.HasSuffix(address, ".0") {
			m.link(dir+"/physfn", "../"+address[:11]+"0")
		}
	}
	m.link("sys/devices/pci/0000:01:00.0/virtfn0", "../0000:01:00.1")
	m.link("sys/devices/pci/0000:01:00.0/virtfn1", "../0000:01:00.2")
	m.link("sys/devices/pci/0000:02:00.0/virtfn0", "../0000:02:00.1")
	m.link("sys/devices/pci/0000:01:00.1/driver", "../../../bus/pci/drivers/net")
	m.link("sys/devices/pci/0000:02:00.1/driver", "../../../bus/pci/drivers/nvidia")
	m.file("sys/devices/pci/0000:02:00.1/nvidia/current_vgpu_type", "0\n")
	m.file("sys/devices/pci/0000:02:00.1/nvidia/vgpu_params", "\n")
	m.file("sys/devices/pci/0000:02:00.1/nvidia/creatable_vgpu_types", "ID    : vGPU Name\n1148  : NVIDIA L40S-2Q\n")
	m.file("proc/sys/kernel/hostname", "here\n")
	m.file("proc/sys/kernel/random/boot_id", "boot-1\n")
	d, err := tree.Open(m.root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	m.Dir = d
	records, err := record.OpenStore(m.root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { records.Close() })
	return m, &Host{Machine: m, Records: records, Settings: m, Patience: 200 * time.Millisecond}
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) dir(name string) { m.must(os.MkdirAll(filepath.Join(m.root, name), 0o755)) }

func (m *machine) file(name, text string) {
	m.dir(path.Dir(name))
	m.must(os.WriteFile(filepath.Join(m.root, name), []byte(text), 0o644))
}

func (m *machine) link(name, target string) {
	m.dir(path.Dir(name))
	m.must(os.Symlink(target, filepath.Join(m.root, name)))
}

func (m *machine) remove(name string) { m.must(os.RemoveAll(filepath.Join(m.root, name))) }

func (m *machine) text(name string) string {
	data, err := os.ReadFile(filepath.Join(m.root, name))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSuffix(string(data), "\n")
}

func (m *machine) has(name string) bool {
	_, err := os.Lstat(filepath.Join(m.root, name))
	return err == nil
}

func (m *machine) driver(address string) string {
	text, _ := os.Readlink(filepath.Join(m.root, "sys/devices/pci", address, "driver"))
	return path.Base(text)
}

// hold is a process that has the IOMMU group open; released again by release.
func (m *machine) hold(group string) (release func()) {
	m.file("proc/71/comm", "qemu\n")
	m.link("proc/71/fd/9", "/dev/vfio/"+group)
	return func() { m.remove("proc/71") }
}

func (m *machine) held() bool { return m.has("proc/71") }

func (m *machine) made(dir string) {
	m.count++
	m.inode[dir] = m.count
}

func (m *machine) Inode(name string) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	target, err := tree.Target(m.Dir, path.Dir(name)+"/"+path.Base(name))
	if err != nil {
		target = name
	}
	return m.inode[path.Base(path.Dir(path.Dir(name)))+path.Base(target)], nil
}

func (m *machine) WriteApart(_ context.Context, name, text string) error {
	return m.WriteAttr(name, text)
}

func (m *machine) WriteAttr(name, text string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	if m.writes == m.killAt {
		panic(killed{})
	}
	var err error
	if m.refuse != nil {
		err = m.refuse(name, text)
	}
	if err == nil {
		err = m.act(name, text)
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

func (m *machine) act(name, text string) error {
	if _, err := m.Dir.Mode(name); err != nil {
		return unix.ENOENT
	}
	parts := strings.Split(name, "/")
	last := parts[len(parts)-1]
	switch {
	case last == "create":
		return m.create(parts[len(parts)-2], text)
	case last == "remove":
		uuid := parts[len(parts)-2]
		m.remove("sys/bus/mdev/devices/" + uuid)
		if m.held() {
			return tree.ErrHeldUp
		}
		m.gone(uuid)
		return nil
	case last == "bind" || last == "unbind":
		return m.bind(parts[len(parts)-2], last, text)
	case last == "driver_override":
		if text == "\n" {
			text = "(null)\n"
		}
	case last == "current_vgpu_type":
		if now := m.text(name); now != "0" && text != "0" {
			return unix.EBUSY
		}
		dir := "sys/devices/pci/" + parts[len(parts)-3]
		m.remove(dir + "/vfio-dev")
		if text != "0" {
			m.node(parts[len(parts)-3])
		}
	case text == "bad":
		return unix.EINVAL
	}
	m.must(os.WriteFile(filepath.Join(m.root, name), []byte(text), 0o644))
	return nil
}

func (m *machine) create(typ, uuid string) error {
	if m.has("sys/devices/card/" + uuid) {
		return unix.EEXIST
	}
	if m.places == 0 {
		return unix.ENOSPC
	}
	m.places--
	dir := "sys/devices/card/" + uuid
	m.file(dir+"/remove", "")
	m.file(dir+"/vendor/knob", "0\n")
	m.link(dir+"/mdev_type", "../mdev_supported_types/"+typ)
	m.link(dir+"/iommu_group", "../../../kernel/iommu_groups/7")
	m.link("sys/bus/mdev/devices/"+uuid, "../../../devices/card/"+uuid)
	m.made("mdev" + uuid) // sys/bus/mdev/devices/<uuid>
	return nil
}

func (m *machine) gone(uuid string) {
	m.remove("sys/bus/mdev/devices/" + uuid)
	m.remove("sys/devices/card/" + uuid)
	m.places++
}

// node is a VFIO device on a function.
func (m *machine) node(address string) {
	m.count++
	name := fmt.Sprintf("vfio%d", m.count)
	m.dir("sys/devices/pci/" + address + "/vfio-dev/" + name)
	m.inode[address+name] = m.count
}

func (m *machine) bind(driver, how, address string) error {
	dir := "sys/devices/pci/" + address
	current := m.driver(address)
	if how == "unbind" {
		if current != driver {
			return unix.ENODEV
		}
		m.remove(dir + "/driver")
		if m.held() {
			return tree.ErrHeldUp
		}
		m.remove(dir + "/vfio-dev")
		return nil
	}
	if override := m.text(dir + "/driver_override"); current != "." || override != "(null)" && override != driver || override == "(null)" && driver == "var_vfio_pci" {
		return unix.ENODEV
	}
	m.link(dir+"/driver", "../../../bus/pci/drivers/"+driver)
	if driver == "var_vfio_pci" {
		m.node(address)
	}
	return nil
}

func (m *machine) Get(_ context.Context, _, _, name string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settings[name], nil
}

func (m *machine) Set(_ context.Context, _, vf, name, value string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	if m.writes == m.killAt {
		panic(killed{})
	}
	if name == Migratable && m.driver(vf) != "." {
		return errors.New("the function is bound")
	}
	m.settings[name] = value
	return nil
}

// state is all of the machine that a change may change.
func (m *machine) state() string {
	var b strings.Builder
	for _, dir := range []string{"sys", "var/lib/kindred/devices"} {
		err := filepath.WalkDir(filepath.Join(m.root, dir), func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return nil
			}
			text, _ := os.Readlink(name)
			if e.Type().IsRegular() {
				data, _ := os.ReadFile(name)
				text = strings.TrimSpace(string(data))
			}
			fmt.Fprintf(&b, "%s = %s\n", strings.TrimPrefix(name, m.root), text)
			return nil
		})
		m.must(err)
	}
	m.mu.Lock() // what a slow machine does late
	defer m.mu.Unlock()
	fmt.Fprintf(&b, "settings %v, places %d\n", m.settings, m.places)
	return b.String()
}
