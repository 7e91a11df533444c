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

// hostName keeps names to what hostname(7), QEMU's options and file names allow.
var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (h Host) validate() error {
	if !hostName.MatchString(h.Name) {
		return fmt.Errorf("host name %q: lower-case letters, digits and inner hyphens, at most 63", h.Name)
	}
	if h.Memory != 0 && h.Memory < 256 {
		return fmt.Errorf("host %s: %d MiB are too few, Debian's kernel needs about 245", h.Name, h.Memory)
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
	t.text("etc/hosts", fmt.Sprintf("127.0.0.1 localhost\n127.0.1.1 %s\n10.0.2.2 outside\n", h.Name))
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
	load, err := h.modules(t, a, libModules)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", h.Name, err)
	}
	note, err := json.Marshal(config.Config{Hostname: h.Name, Modules: load, Network: h.Network != nil})
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", h.Name, err)
	}
	t.text(strings.TrimPrefix(config.Path, "/"), string(note))
	return t, nil
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
