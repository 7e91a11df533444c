// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// hypervisorPackages are what a host runs VMs with.
var hypervisorPackages = []string{
	"libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-clients", "qemu-system-x86", "udev", "iproute2", "iptables",
}

// unwanted is what no program of a hypervisor reads.
var unwanted = []string{
	"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/bug", "usr/share/lintian", "usr/share/doc-base", "usr/include", "boot",
}

// hypervisorEntry is the file in the cache. Its name says how it was made.
func hypervisorEntry(cacheDir string) string {
	const layout = "1" // raise it when the steps below change
	sum := sha256.Sum256([]byte(strings.Join(append(append([]string{layout}, hypervisorPackages...), unwanted...), "\x00")))
	return filepath.Join(cacheDir, "hypervisor-"+libvirtSuite+"-"+hex.EncodeToString(sum[:6])+".ext4")
}

// CachedHypervisor is the root file system of hosts that run VMs: Debian with udev,
// libvirt and QEMU, for [Host.Disk]. The error is [fs.ErrNotExist] when
// [PrepareHypervisor] did not make it.
func CachedHypervisor(cacheDir string) (string, error) {
	if cacheDir == "" {
		var err error
		if cacheDir, err = DefaultCacheDir(); err != nil {
			return "", err
		}
	}
	file := hypervisorEntry(cacheDir)
	_, err := os.Stat(file)
	return file, err
}

// PrepareHypervisor makes sure that it is in the cache. The first time it downloads
// some 80 MB from the archive that this machine gets its own packages from. They are
// unpacked, not configured: what they need to be configured is written into the
// guest.
func PrepareHypervisor(ctx context.Context, cacheDir string, logf func(format string, args ...any)) (string, error) {
	file, err := CachedHypervisor(cacheDir)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	cache := filepath.Dir(file)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("lab: making the cache: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(cache, "lock"), logf)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(file); err == nil {
		return file, nil // another program was quicker
	}
	started := time.Now()
	if err := buildHypervisor(ctx, cache, file, logf); err != nil {
		return "", fmt.Errorf("lab: preparing hosts that run VMs: %w", err)
	}
	logf("lab: prepared %s in %.1f s", file, time.Since(started).Seconds())
	return file, nil
}

func buildHypervisor(ctx context.Context, cache, file string, logf func(string, ...any)) error {
	if err := ensurePackages(ctx, []string{"e2fsprogs"}, logf); err != nil {
		return err
	}
	work, err := os.MkdirTemp(cache, workPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	logf("lab: downloading libvirt and QEMU of %s with what they need", libvirtSuite)
	root, image := filepath.Join(work, "root"), filepath.Join(work, "image")
	if err := downloadUserland(ctx, work, root, libvirtSuite, hypervisorPackages); err != nil {
		return err
	}
	for _, dir := range unwanted {
		if err := os.RemoveAll(filepath.Join(root, dir)); err != nil {
			return err
		}
	}
	// As large as it can become; the file has holes where nothing is.
	if _, err := output(ctx, "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", root, image, "2G"); err != nil {
		return err
	}
	return os.Rename(image, file)
}

// vmSource is the software of the VMs.
//
//go:embed vm/vm.c vm/entry.S
var vmSource embed.FS

// BuildVM builds the software of a VM that uses the sample driver's devices and
// says on its serial port, round by round, whether they are what they were. It
// takes gcc a fraction of a second.
func BuildVM(ctx context.Context, out string) error {
	work, err := os.MkdirTemp("", "kindred-lab-vm-")
	if err != nil {
		return fmt.Errorf("lab: building a VM's software: %w", err)
	}
	defer os.RemoveAll(work)
	args := []string{
		"-m32", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-pie", "-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-mgeneral-regs-only",
		"-nostdlib", "-static", "-no-pie", "-Wl,-e,entry", "-Wl,--build-id=none", "-Wl,-Ttext-segment=0x100000", "-Wl,-z,noexecstack", "-Wl,--omagic", "-Wl,-w", "-o", out,
	}
	for _, name := range []string{"entry.S", "vm.c"} {
		data, err := vmSource.ReadFile("vm/" + name)
		if err != nil {
			return err
		}
		file := filepath.Join(work, name)
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return fmt.Errorf("lab: building a VM's software: %w", err)
		}
		args = append(args, file)
	}
	if _, err := output(ctx, "gcc", args...); err != nil {
		return fmt.Errorf("lab: building a VM's software: %w", err)
	}
	return nil
}
