// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// iommufdConfig is what the kernel is built with.
//
//go:embed iommufd.config
var iommufdConfig []byte

const iommufdWork = "iommufd-" + workPrefix

func iommufdRecipe() string {
	const layout = "1" // raise it when the steps below change
	sum := sha256.Sum256(append([]byte(layout), iommufdConfig...))
	return hex.EncodeToString(sum[:6])
}

// IOMMUFD is [Prepare] for a kernel of our own, from the same source, that has
// IOMMUFD and device files of VFIO, which Debian's have not. Its drivers are mtty
// and mdpy. It is not built here, as that takes minutes: one that is not in the
// cache is fs.ErrNotExist, and [BuildIOMMUFD] makes it.
func IOMMUFD(ctx context.Context, cacheDir string, logf func(format string, args ...any)) (*Artefacts, error) {
	base, err := Prepare(ctx, cacheDir, logf)
	if err != nil {
		return nil, err
	}
	a, err := loadEntry(iommufdEntry(base))
	if err != nil {
		return nil, fmt.Errorf("lab: the kernel with IOMMUFD (make lab-iommufd builds it): %w", err)
	}
	a.Init = base.Init
	return a, nil
}

func iommufdEntry(base *Artefacts) string {
	k := kernel{release: base.Release, version: base.PackageVersion}
	return filepath.Join(filepath.Dir(base.Dir), entryFor("iommufd", k, iommufdRecipe()))
}

// BuildIOMMUFD puts what [IOMMUFD] returns into the cache, unless it is there. It
// takes six minutes and more on two processors, and 2 GB of disk meanwhile.
func BuildIOMMUFD(ctx context.Context, cacheDir string, logf func(format string, args ...any)) error {
	base, err := Prepare(ctx, cacheDir, logf)
	if err != nil {
		return err
	}
	cacheDir = filepath.Dir(base.Dir)
	// A lock of its own: nobody who boots Debian's kernel waits for this one.
	unlock, err := lock(ctx, filepath.Join(cacheDir, "iommufd.lock"), logf)
	if err != nil {
		return err
	}
	defer unlock()
	dir := iommufdEntry(base)
	if _, err := os.Stat(filepath.Join(dir, manifest)); err == nil {
		return nil
	}
	left, err := filepath.Glob(filepath.Join(cacheDir, iommufdWork+"*"))
	if err != nil {
		return err
	}
	for _, work := range left { // of an interrupted build
		if err := os.RemoveAll(work); err != nil {
			return err
		}
	}
	if err := buildIOMMUFD(ctx, cacheDir, base, dir, logf); err != nil {
		return fmt.Errorf("lab: building the kernel with IOMMUFD: %w", err)
	}
	return nil
}

func buildIOMMUFD(ctx context.Context, cacheDir string, base *Artefacts, dir string, logf func(string, ...any)) error {
	started := time.Now()
	packages := []string{"kmod", "xz-utils", "tar", "make", "gcc", "libc6-dev", "binutils", "flex", "bison", "bc", "libelf-dev"}
	if err := ensurePackages(ctx, packages, logf); err != nil {
		return err
	}
	work, err := os.MkdirTemp(cacheDir, iommufdWork)
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	logf("lab: downloading the source of kernel %s (150 MB), unpacking it and building it: some minutes", base.PackageVersion)
	if _, err := outputIn(ctx, work, "apt-get", "-o", "APT::Sandbox::User=root", "download", sourcePackage+"="+base.PackageVersion); err != nil {
		return err
	}
	file, err := deb(work, sourcePackage)
	if err != nil {
		return err
	}
	const unpack = `set -e -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -xO ./usr/src/$2.tar.xz | tar -xJ -C "$3"`
	if _, err := output(ctx, "bash", "-c", unpack, "bash", file, sourcePackage, work); err != nil {
		return fmt.Errorf("unpacking the source: %w", err)
	}
	src, root, out := filepath.Join(work, sourcePackage), filepath.Join(work, "root"), filepath.Join(work, "out")
	config := filepath.Join(work, "config")
	if err := os.WriteFile(config, iommufdConfig, 0o644); err != nil {
		return err
	}
	release := ""
	for _, args := range [][]string{
		{"allnoconfig", "KCONFIG_ALLCONFIG=" + config},
		{"-j" + strconv.Itoa(runtime.NumCPU()), "vmlinux", "modules"},
		{"INSTALL_MOD_PATH=" + root, "INSTALL_MOD_STRIP=1", "modules_install"},
		{"kernelrelease"},
	} {
		// Nobody waits for it: whatever else runs here goes first.
		said, err := output(ctx, "nice", append([]string{"-n", "10", "make", "-s", "-C", src}, args...)...)
		if err != nil {
			return err
		}
		release = strings.TrimSpace(said)
		if args[0] == "allnoconfig" {
			if err := configured(filepath.Join(src, ".config")); err != nil {
				return err
			}
		}
	}
	if err := os.Mkdir(out, 0o755); err != nil {
		return err
	}
	modules := filepath.Join(root, "lib", "modules", release)
	for _, link := range []string{"build", "source"} { // where it was built
		if err := os.RemoveAll(filepath.Join(modules, link)); err != nil {
			return err
		}
	}
	if err := os.Rename(modules, filepath.Join(out, "modules")); err != nil {
		return err
	}
	if _, err := output(ctx, "strip", "--strip-debug", "-o", filepath.Join(out, "vmlinux"), filepath.Join(src, "vmlinux")); err != nil {
		return err
	}
	if err := copyFile(filepath.Join(out, "busybox"), base.busybox(), 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(&Artefacts{Release: release, PackageVersion: base.PackageVersion, Recipe: iommufdRecipe()}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, manifest), append(data, '\n'), 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil { // one without a manifest
		return err
	}
	if err := os.Rename(out, dir); err != nil {
		return err
	}
	logf("lab: built kernel %s in %.1f minutes", release, time.Since(started).Minutes())
	return nil
}

// configured says which of our lines Kconfig did not take: it drops without a word
// what depends on something that is not there.
func configured(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	has := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		has[strings.TrimSpace(line)] = true
	}
	var dropped []string
	for line := range strings.Lines(string(iommufdConfig)) {
		line = strings.TrimSpace(line)
		if name, unset := strings.CutSuffix(line, "=n"); unset {
			if has[name+"=y"] || has[name+"=m"] {
				dropped = append(dropped, line)
			}
			continue
		}
		if strings.HasPrefix(line, "CONFIG_") && !has[line] {
			dropped = append(dropped, line)
		}
	}
	if len(dropped) > 0 {
		return fmt.Errorf("the kernel's configuration does not take %s", strings.Join(dropped, ", "))
	}
	return nil
}
