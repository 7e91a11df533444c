// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"kindred/lab/internal/config"
)

// Host is a machine to boot.
type Host struct {
	// Name is the hostname.
	Name string
	// Modules are loaded in this order, each after what it depends on. An element
	// is a module's name, or that of another build of one ("mtty-rebuilt"), and
	// may be followed by parameters: "mdpy count=8".
	Modules []string
	// Memory in MiB; 0 means 512.
	Memory int
	// Network gives the guest 10.0.2.15 on QEMU's user-mode network, where
	// 10.0.2.2 is this machine's loopback, and makes its ports reachable here.
	Network *Network
	// LAN is a network of the guests alone, on which the host has the address that
	// the LAN gives its name. It needs Network too.
	LAN *LAN
	// Disk is a file with a root file system, over which lies what the lab itself puts
	// into a guest. Nothing is written to it: changes are kept in memory.
	Disk string
	// Systemd has the disk's systemd take over as process 1 when the host is set up,
	// to its basic.target: units can be started there. The serial console has no
	// shell then.
	Systemd bool
	// QEMUArgs and KernelArgs are appended to the lab's own.
	QEMUArgs   []string
	KernelArgs []string
}

// Network is a guest's network.
type Network struct {
	Forward []Forward
}

// Forward makes a guest's TCP port answer on this machine's loopback.
type Forward struct {
	Here  int // port on 127.0.0.1
	There int // port in the guest
}

// always are the modules of every host: without the type1 driver no program can
// open a device, and it is nobody's dependency.
var always = []string{"irqbypass", "vfio", "vfio_iommu_type1", "mdev"}

// forDisk are the modules that a root file system on a disk needs.
var forDisk = []string{"virtio_blk", "crc32c_generic", "ext4", "overlay"}

// hostName keeps names to what hostname(7), QEMU's options and file names allow.
var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (h Host) validate() error {
	if !hostName.MatchString(h.Name) {
		return fmt.Errorf("host name %q: lower-case letters, digits and inner hyphens, at most 63", h.Name)
	}
	if h.Memory != 0 && h.Memory < 256 {
		return fmt.Errorf("host %s: %d MiB are too few, Debian's kernel needs about 245", h.Name, h.Memory)
	}
	if h.LAN != nil && (h.Network == nil || h.LAN.address(h.Name) == "") {
		return fmt.Errorf("host %s: a LAN needs to know the host's name, and Network to be there too", h.Name)
	}
	if h.Systemd && h.Disk == "" {
		return fmt.Errorf("host %s: systemd comes from a Disk", h.Name)
	}
	return nil
}

// initramfs is the host's whole root file system.
func (h Host) initramfs(a *Artefacts) (tree, error) {
	t := tree{}
	for _, dir := range []string{"etc", "dev", "proc", "sys", "run", "mnt", "var/lib", "var/log", "usr/bin", "usr/sbin", "usr/lib", "bin", "sbin", "lib"} {
		t.dir(dir, 0o755)
	}
	t.dir("root", 0o700)
	t.dir("tmp", 0o777)
	t.symlink("var/run", "/run")
	t.copy("init", a.Init, 0o755)
	t.copy("bin/busybox", a.busybox(), 0o755)
	t.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
	t.text("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")
	t.text("etc/hostname", h.Name+"\n")
	t.text("etc/hosts", h.hostsFile())
	t.text("etc/os-release", "ID=kindred-lab\nPRETTY_NAME=\"Kindred lab guest\"\n")
	t.text("etc/profile", "PS1='"+h.Name+":\\w# '\n")
	// The same host has the same machine id at every boot, and no other host has it.
	sum := sha256.Sum256([]byte("kindred lab host " + h.Name))
	t.text("etc/machine-id", fmt.Sprintf("%x\n", sum[:16]))

	libModules := "lib/modules/" + a.Release
	err := addDir(t, libModules, a.modules())
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", h.Name, err)
	}
	note := config.Config{Hostname: h.Name, Network: h.Network != nil}
	if note.Modules, err = h.modules(t, a, libModules); err != nil {
		return nil, fmt.Errorf("host %s: %w", h.Name, err)
	}
	if h.Disk != "" {
		note.Disk = "/dev/vda"
		if note.DiskModules, err = a.loadOrder(libModules, forDisk); err != nil {
			return nil, fmt.Errorf("host %s: %w", h.Name, err)
		}
	}
	if h.Systemd {
		note.Systemd = "/usr/lib/systemd/systemd"
	}
	if h.LAN != nil {
		note.LAN = h.LAN.address(h.Name) + "/24"
	}
	data, err := json.Marshal(note)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", h.Name, err)
	}
	t.text(strings.TrimPrefix(config.Path, "/"), string(data))
	return t, nil
}

// hostsFile is /etc/hosts: on a LAN a host has the same address for itself as for
// the others.
func (h Host) hostsFile() string {
	text := "127.0.0.1 localhost\n10.0.2.2 outside\n"
	if h.LAN == nil {
		return text + "127.0.1.1 " + h.Name + "\n"
	}
	for _, name := range h.LAN.names {
		text += h.LAN.address(name) + " " + name + "\n"
	}
	return text
}

// loadOrder is what to load for modules of the kernel's package.
func (a *Artefacts) loadOrder(libModules string, names []string) ([]config.Module, error) {
	text, err := os.ReadFile(filepath.Join(a.modules(), "modules.dep"))
	if err != nil {
		return nil, err
	}
	dep, err := parseModulesDep(string(text))
	if err != nil {
		return nil, err
	}
	files, err := dep.order(names)
	if err != nil {
		return nil, err
	}
	load := make([]config.Module, len(files))
	for i, file := range files {
		load[i].Path = "/" + libModules + "/" + file
	}
	return load, nil
}

// modules puts variants in the place of the module they are a build of, so that
// the host has one such module, as a real host has, and lists what to load.
func (h Host) modules(t tree, a *Artefacts, libModules string) ([]config.Module, error) {
	text, err := os.ReadFile(filepath.Join(a.modules(), "modules.dep"))
	if err != nil {
		return nil, err
	}
	dep, err := parseModulesDep(string(text))
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(h.Modules, func(m string) bool { return strings.HasPrefix(m, DriverPrefix) }) {
		if err := a.addDriver(t, libModules, bytes.NewBuffer(text), dep); err != nil {
			return nil, err
		}
	}
	names, params := append([]string(nil), always...), map[string]string{}
	if h.Network != nil {
		names = append(names, "virtio_net")
	}
	for _, m := range h.Modules {
		name, options, _ := strings.Cut(m, " ")
		if plain, ok := variants[name]; ok {
			t.copy(libModules+"/"+dep[plain].file, a.variant(name), 0o644)
			name = plain
		}
		names = append(names, name)
		params[moduleName(name)] = strings.TrimSpace(options)
	}
	files, err := dep.order(names)
	if err != nil {
		return nil, err
	}
	load := make([]config.Module, len(files))
	for i, file := range files {
		load[i] = config.Module{Path: "/" + libModules + "/" + file, Params: params[moduleName(file)]}
	}
	return load, nil
}

func addDir(t tree, to, from string) error {
	return filepath.WalkDir(from, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		t.copy(filepath.Join(to, rel), p, 0o644)
		return nil
	})
}
