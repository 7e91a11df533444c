// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// driverSource is our own vendor driver: many modules from one source.
//
//go:embed driver/builds driver/gen.awk driver/Kbuild driver/*.c driver/*.h
var driverSource embed.FS

// DriverPrefix begins the names of our own driver's modules.
const DriverPrefix = "kdx_"

// DriverBuild is one build of our own driver: a line of the table lab/driver/builds,
// which says what the columns mean.
type DriverBuild struct {
	Name      string   // the module is kdx_<Name>
	Namespace string   // type ids are <Namespace>-<type>
	PCI       bool     // its parents are edu functions, else devices on its own bus
	Dialect   string   // how it frames and checks a state stream
	Stream    string   // major.minor of what it writes
	Types     []string // without the namespace
	Options   string
}

// Module is the build's module.
func (b DriverBuild) Module() string { return DriverPrefix + b.Name }

// DriverBuilds are all builds of our own driver, in the table's order.
func DriverBuilds() ([]DriverBuild, error) {
	text, err := driverSource.ReadFile("driver/builds")
	if err != nil {
		return nil, err
	}
	return parseDriverBuilds(string(text))
}

func parseDriverBuilds(text string) ([]DriverBuild, error) {
	var builds []DriverBuild
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) != 8 || f[2] != "pci" && f[2] != "bus" {
			return nil, fmt.Errorf("lab/driver/builds: not a build: %q", strings.TrimSpace(line))
		}
		b := DriverBuild{Name: f[0], Namespace: f[1], PCI: f[2] == "pci", Dialect: f[3], Stream: f[4], Options: f[7]}
		for t := range strings.SplitSeq(f[5], ",") {
			name, _, _ := strings.Cut(t, ":")
			b.Types = append(b.Types, name)
		}
		builds = append(builds, b)
	}
	return builds, nil
}

// driverFiles are the embedded ones, without what a build inside the source tree left.
func driverFiles() (map[string][]byte, error) {
	files := map[string][]byte{}
	err := fs.WalkDir(driverSource, "driver", func(p string, d fs.DirEntry, err error) error {
		name := path.Base(p)
		if err != nil || d.IsDir() || strings.HasPrefix(name, "b_") || strings.HasSuffix(name, ".mod.c") {
			return err
		}
		files[name], err = driverSource.ReadFile(p)
		return err
	})
	return files, err
}

// driverFlags keep what the lab strips anyway from being made in the first place.
var driverFlags = []string{"KCFLAGS=-g0", "CONFIG_DEBUG_INFO_BTF_MODULES="}

// withDriver completes a with our own driver's modules. They have an entry of their
// own in the cache, so that a change to the driver does not download a kernel.
func withDriver(ctx context.Context, cacheDir string, a *Artefacts, logf func(string, ...any)) (*Artefacts, error) {
	files, err := driverFiles()
	if err != nil {
		return nil, fmt.Errorf("lab: reading the driver's source: %w", err)
	}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(sum, "%s\x00%d\x00%s", name, len(files[name]), files[name])
	}
	fmt.Fprint(sum, driverFlags)
	k := kernel{release: a.Release, version: a.PackageVersion}
	a.Driver = filepath.Join(cacheDir, entryFor("driver", k, hex.EncodeToString(sum.Sum(nil)[:6])))
	if _, err := os.Stat(a.Driver); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return a, err // the directory is renamed into place when it is complete
	}
	if err := buildDriver(ctx, cacheDir, k, files, a.Driver, logf); err != nil {
		return nil, fmt.Errorf("lab: building the lab's driver: %w", err)
	}
	return a, nil
}

// buildDriver makes all modules with one make.
func buildDriver(ctx context.Context, cacheDir string, k kernel, files map[string][]byte, dir string, logf func(string, ...any)) error {
	started := time.Now()
	if err := ensurePackages(ctx, buildPackages(k), logf); err != nil {
		return err
	}
	work, err := os.MkdirTemp(cacheDir, workPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	src, out := filepath.Join(work, "driver"), filepath.Join(work, "out")
	for _, d := range []string{src, out} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(src, name), data, 0o644); err != nil {
			return err
		}
	}
	flags := slices.Clone(driverFlags)
	// As for the samples: a build-id must not depend on where it was built.
	flags[0] += " -ffile-prefix-map=" + src + "=."
	if _, err := output(ctx, "make", append([]string{"-j2", "-C", k.headersDir(), "M=" + src, "modules"}, flags...)...); err != nil {
		return err
	}
	built, err := filepath.Glob(filepath.Join(src, DriverPrefix+"*.ko"))
	if err != nil {
		return err
	}
	if _, err := output(ctx, "strip", append([]string{"--strip-debug"}, built...)...); err != nil {
		return err
	}
	for _, file := range built {
		if err := os.Rename(file, filepath.Join(out, filepath.Base(file))); err != nil {
			return err
		}
	}
	if err := os.Rename(out, dir); err != nil {
		return err
	}
	logf("lab: built %d modules of the lab's driver in %.1f s", len(built), time.Since(started).Seconds())
	return nil
}

// addDriver puts our own driver's modules, all builds of it, where depmod would have
// listed them, and completes the index.
func (a *Artefacts) addDriver(t tree, libModules string, index *bytes.Buffer, dep modulesDep) error {
	built, err := filepath.Glob(filepath.Join(a.Driver, DriverPrefix+"*.ko"))
	if err != nil {
		return err
	}
	for _, file := range built {
		needs, err := dependencies(file)
		if err != nil {
			return err
		}
		m := moduleFiles{file: "extra/" + filepath.Base(file)}
		for _, need := range needs {
			m.needs = append(append(m.needs, dep[need].file), dep[need].needs...)
		}
		dep[moduleName(file)] = m
		fmt.Fprintf(index, "%s: %s\n", m.file, strings.Join(m.needs, " "))
		t.copy(libModules+"/"+m.file, file, 0o644)
	}
	t.text(libModules+"/modules.dep", index.String())
	return nil
}
