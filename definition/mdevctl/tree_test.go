// SPDX-License-Identifier: Apache-2.0

//go:build linux

package mdevctl_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// machine is a tree that programs take for a machine: files by name below its
// root, links by what they lead to. Links are relative, so that the tree's sys
// can be mounted over /sys.
type machine struct {
	files map[string]string
	links map[string]string
	dirs  []string
}

func newMachine() *machine {
	m := &machine{files: map[string]string{}, links: map[string]string{}}
	m.dirs = []string{
		"sys/class/mdev_bus", "sys/bus/mdev/devices",
		"etc/mdevctl.d/scripts.d/callouts", "etc/mdevctl.d/scripts.d/notifiers",
		"usr/lib/mdevctl/scripts.d/callouts", "usr/lib/mdevctl/scripts.d/notifiers",
	}
	return m
}

const devices = "sys/devices/pci0000:00/"

// parent adds a parent; driver names its types, as the kernel does.
func (m *machine) parent(name, driver string) *machine {
	m.link("sys/class/mdev_bus/"+name, devices+name)
	m.link(devices+name+"/driver", "sys/bus/pci/drivers/"+driver)
	m.link(devices+name+"/subsystem", "sys/bus/pci")
	m.dirs = append(m.dirs, devices+name+"/mdev_supported_types", "sys/bus/pci/drivers/"+driver)
	return m
}

// typ adds a type to a parent; name and description may be empty.
func (m *machine) typ(parent, typ string, available int, name, description string) *machine {
	dir := devices + parent + "/mdev_supported_types/" + typ + "/"
	m.files[dir+"available_instances"] = fmt.Sprintln(available)
	m.files[dir+"device_api"] = "vfio-pci\n"
	m.files[dir+"create"] = ""
	if name != "" {
		m.files[dir+"name"] = name + "\n"
	}
	if description != "" {
		m.files[dir+"description"] = description + "\n"
	}
	return m
}

// device adds a running device.
func (m *machine) device(parent, typ, uuid string) *machine {
	m.link(devices+parent+"/"+uuid+"/mdev_type", devices+parent+"/mdev_supported_types/"+typ)
	m.files[devices+parent+"/"+uuid+"/remove"] = ""
	m.link("sys/bus/mdev/devices/"+uuid, devices+parent+"/"+uuid)
	return m
}

// define adds a definition as it is in its file.
func (m *machine) define(parent, file, content string) *machine {
	m.files["etc/mdevctl.d/"+parent+"/"+file] = content
	return m
}

func (m *machine) link(name, target string) {
	m.links[name] = strings.Repeat("../", strings.Count(name, "/")) + target
}

// script adds a script. Scripts of newer are in the directory since 1.3.0.
func (m *machine) script(dir, name, text string) *machine {
	m.files[dir+"/"+name] = "#!/bin/sh\n" + text
	return m
}

func (m *machine) write(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	below := func(name string) string { return filepath.Join(root, filepath.FromSlash(name)) }
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range m.dirs {
		must(os.MkdirAll(below(name), 0o755))
	}
	for name, text := range m.files {
		must(os.MkdirAll(below(path.Dir(name)), 0o755))
		must(os.WriteFile(below(name), []byte(text), 0o755))
	}
	for name, target := range m.links {
		must(os.MkdirAll(below(path.Dir(name)), 0o755))
		must(os.Symlink(target, below(name)))
	}
	return root
}

// definitions are all files below etc/mdevctl.d but scripts, with their content.
func definitions(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	base := filepath.Join(root, "etc/mdevctl.d")
	err := filepath.WalkDir(base, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && d.Name() == "scripts.d" {
				return filepath.SkipDir
			}
			return err
		}
		data, err := os.ReadFile(name)
		rel, _ := filepath.Rel(base, name)
		fmt.Fprintf(&b, "%s:\n%s|end\n", rel, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
