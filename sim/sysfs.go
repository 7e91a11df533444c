// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func fullName(d *Driver, t *Type) string { return d.Namespace + "-" + t.Name }

// system makes what a machine has besides devices: names, kernel, core modules.
func (m *Machine) system(s Setup) {
	r := m.root
	r.text("proc/sys/kernel/hostname", s.Name)
	r.text("proc/sys/kernel/osrelease", s.Kernel)
	r.text("proc/sys/kernel/version", "#1 SMP PREEMPT_DYNAMIC simulated")
	r.text("proc/sys/kernel/arch", "x86_64")
	r.symlink("proc/1/ns/pid", "pid:[4026531836]")
	r.dir("proc/1/fd")
	r.text(fmt.Sprintf("proc/%d/comm", holderPID), "simulated-vm")
	r.dir(fmt.Sprintf("proc/%d/fd", holderPID))
	r.text("etc/os-release", "ID=simulated\nVERSION_ID=1")
	r.bytes("sys/kernel/notes", note(idOf("vmlinux", s.Kernel)))
	r.dir("sys/class/mdev_bus")
	r.dir("sys/bus/mdev/devices")
	r.dir("sys/bus/sim/devices")
	for _, name := range []string{"vfio", "mdev"} {
		m.module(name, idOf(name, s.Kernel), nil)
	}
	r.dir("sys/module/vfio/holders/mdev")
}

// module makes /sys/module/<name>.
func (m *Machine) module(name, buildID string, parameters map[string]string) {
	dir := m.root.dir("sys/module/" + name)
	dir.text("initstate", "live")
	dir.text("taint", "")
	dir.bytes("notes/.note.gnu.build-id", note(buildID))
	dir.dir("holders")
	for _, p := range slices.Sorted(maps.Keys(parameters)) {
		dir.text("parameters/"+p, parameters[p])
	}
}

// note is an ELF note with a build-id (elf(5)).
func note(buildID string) []byte {
	id, err := hex.DecodeString(buildID)
	if err != nil {
		id = []byte(buildID)
	}
	b := binary.LittleEndian.AppendUint32(nil, 4)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(id)))
	b = binary.LittleEndian.AppendUint32(b, 3) // NT_GNU_BUILD_ID
	b = append(b, "GNU\x00"...)
	b = append(b, id...)
	return append(b, make([]byte, (4-len(id)%4)%4)...)
}

// driver makes a driver's module and its places on the buses.
func (m *Machine) driver(d *Driver) {
	m.module(d.module(), d.buildID(), d.Parameters)
	m.root.dir("sys/module/mdev/holders/" + d.module())
	for _, bus := range []string{"sim", "mdev"} {
		m.root.dir("sys/bus/"+bus+"/drivers/"+d.Namespace).linkTo(m.root, "module", "sys/module/"+d.module())
	}
}

// parent makes a parent with its types (drivers/vfio/mdev/mdev_sysfs.c).
func (m *Machine) parent(p *parent) {
	dir := m.root.dir(p.dir)
	dir.linkTo(m.root, "driver", "sys/bus/sim/drivers/"+p.Driver.Namespace)
	dir.linkTo(m.root, "subsystem", "sys/bus/sim")
	m.root.linkTo(m.root, "sys/bus/sim/devices/"+p.Name, p.dir)
	m.root.linkTo(m.root, "sys/class/mdev_bus/"+p.Name, p.dir)
	for i := range p.Driver.Types {
		t := &p.Driver.Types[i]
		full := fullName(p.Driver, t)
		typ := dir.dir("mdev_supported_types/" + full)
		typ.trigger("create", func(text string) error { return m.create(p, t, text) })
		typ.text("device_api", t.api())
		label := t.Label
		if label == "" {
			label = full
		}
		typ.text("name", label)
		typ.attr("available_instances", func() string { return strconv.Itoa(p.available(t)) + "\n" })
		if t.Description != "" {
			typ.text("description", t.Description)
		}
		typ.dir("devices")
		for _, name := range slices.Sorted(maps.Keys(t.Attributes)) {
			typ.text(name, t.Attributes[name])
		}
	}
}

// device makes a device's directory and what points to it.
func (m *Machine) device(dev *instance) {
	full := fullName(dev.driver, dev.typ)
	at := path.Join(dev.parent.dir, dev.id)
	group := "sys/kernel/iommu_groups/" + strconv.Itoa(dev.group)
	node := "vfio" + strconv.Itoa(dev.group)

	dir := m.root.dir(at)
	dir.linkTo(m.root, "driver", "sys/bus/mdev/drivers/"+dev.driver.Namespace)
	dir.linkTo(m.root, "subsystem", "sys/bus/mdev")
	dir.linkTo(m.root, "iommu_group", group)
	dir.symlink("mdev_type", "../mdev_supported_types/"+full)
	dir.dir("vfio-dev/" + node)
	dir.text("uevent", "")
	dir.trigger("remove", func(text string) error { return m.remove(dev, text) })
	for name, text := range dev.typ.DeviceAttributes {
		dir.add(name, m.setting(text))
	}
	m.root.linkTo(m.root, "sys/bus/mdev/devices/"+dev.id, at)
	m.root.dir(dev.parent.dir+"/mdev_supported_types/"+full+"/devices").linkTo(m.root, dev.id, at)
	m.root.linkTo(m.root, group+"/devices/"+dev.id, at)
	m.root.text(group+"/name", "vfio-noiommu")
	m.root.dir("sys/class/vfio-dev").linkTo(m.root, node, at+"/vfio-dev/"+node)
	debug := m.root.dir("sys/kernel/debug/vfio/" + dev.id)
	if !dev.driver.Migration.None {
		debug.attr("migration/state", func() string {
			dev.mu.Lock()
			defer dev.mu.Unlock()
			return dev.mig.String() + "\n"
		})
	}
}

// setting is an attribute that can be read and written; its driver takes one
// line.
func (m *Machine) setting(text string) *node {
	return &node{
		mode: 0o644,
		show: func() string { return text + "\n" },
		store: func(to string) error {
			to = strings.TrimSuffix(to, "\n")
			if to == "" || strings.Contains(to, "\n") {
				return unix.EINVAL
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			text = to
			return nil
		},
	}
}

// forget takes away what is left of a device.
func (m *Machine) forget(dev *instance) {
	m.root.dir(dev.parent.dir).remove(dev.id)
	m.root.dir("sys/kernel/iommu_groups").remove(strconv.Itoa(dev.group))
	m.root.dir("sys/class/vfio-dev").remove("vfio" + strconv.Itoa(dev.group))
	m.root.dir("sys/kernel/debug/vfio").remove(dev.id)
}
