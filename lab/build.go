// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
)

// kbuild builds Debian's copies of the kernel's sample drivers.
const kbuild = `obj-m += mtty.o mdpy.o mbochs.o
`

// kbuildRebuilt builds the same mtty with another compiler flag: the same stream
// format under another build-id, as after a distribution's rebuild.
const kbuildRebuilt = `ccflags-y += -fno-inline-small-functions
obj-m += mtty.o
`

// kbuildNewer builds an mtty whose streams say another minor version, which the
// driver itself does not take.
const kbuildNewer = `obj-m += mtty.o
`

// newerMinor is the change that makes it.
var newerMinor = [2]string{"#define MTTY_MINOR_VER 0", "#define MTTY_MINOR_VER 1"}

// variants are further builds of a module, named by what a Host asks for: the
// module, and the ending of the directory that they are built in.
var variants = map[string]string{"mtty-rebuilt": "mtty", "mtty-newer": "mtty"}

// imageModules are taken from the kernel package, with what they depend on.
var imageModules = []string{
	"irqbypass", "vfio", "vfio-iommu-type1", "mdev", "vfio-pci-core", "vfio-pci",
	"failover", "net_failover", "virtio_net", // a network between guests
	"nvme-core", "nvme", // an SR-IOV device QEMU can be
	"pci-stub",                                        // a driver for its functions to be taken from and given back to
	"virtio_blk", "crc32c_generic", "ext4", "overlay", // a root file system on a disk
}

// recipe hashes all that decides the result besides the kernel's version.
func recipe() string {
	const layout = "3" // raise it when the steps below change
	sum := sha256.Sum256([]byte(strings.Join(append([]string{layout, kbuild, kbuildRebuilt, kbuildNewer, newerMinor[1]}, imageModules...), "\x00")))
	return hex.EncodeToString(sum[:6])
}

// build makes a cache entry in out, using work for what is in between.
func build(ctx context.Context, k kernel, work, out string, logf func(string, ...any)) error {
	logf("lab: downloading kernel %s and its source (260 MB)", k.release)
	for _, name := range []string{k.imagePackage(), sourcePackage} {
		// Without the sandbox option apt complains that its own user cannot write here.
		if _, err := outputIn(ctx, work, "apt-get", "-o", "APT::Sandbox::User=root", "download", name+"="+k.version); err != nil {
			return fmt.Errorf("downloading %s %s (is this machine's package list current? apt-get update): %w", name, k.version, err)
		}
	}
	if err := os.MkdirAll(filepath.Join(out, "variants"), 0o755); err != nil {
		return err
	}
	logf("lab: building the sample drivers and unpacking the kernel")
	image, samples := filepath.Join(work, "image"), filepath.Join(work, "samples")
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return buildSamples(gctx, k, work, samples, out) })
	g.Go(func() error { return unpackImage(gctx, k, work, image, out) })
	if err := g.Wait(); err != nil {
		return err
	}
	if err := assembleModules(ctx, k, image, samples, out); err != nil {
		return err
	}
	return copyFile(filepath.Join(out, "busybox"), "/bin/busybox", 0o755)
}

// deb is the one file that a download of the package left in work.
func deb(work, name string) (string, error) {
	found, err := filepath.Glob(filepath.Join(work, name+"_*.deb"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("looking for the download of %s in %s: %d files, %v", name, work, len(found), err)
	}
	return found[0], nil
}

func unpackImage(ctx context.Context, k kernel, work, image, out string) error {
	file, err := deb(work, k.imagePackage())
	if err != nil {
		return err
	}
	if _, err := output(ctx, "dpkg", "-x", file, image); err != nil {
		return err
	}
	bz, err := os.ReadFile(filepath.Join(image, "boot", "vmlinuz-"+k.release))
	if err != nil {
		return err
	}
	vmlinux, err := cutVmlinux(bz)
	if err != nil {
		return fmt.Errorf("vmlinuz-%s: %w", k.release, err)
	}
	return os.WriteFile(filepath.Join(out, "vmlinux"), vmlinux, 0o644)
}

// buildSamples compiles against the headers, out of tree. The source package is
// streamed: only one directory of its 1.5 GB ever reaches the disk.
func buildSamples(ctx context.Context, k kernel, work, samples, out string) error {
	file, err := deb(work, sourcePackage)
	if err != nil {
		return err
	}
	src := filepath.Join(work, "src")
	for _, dir := range []string{src, samples, samples + "-rebuilt", samples + "-newer"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	const pipe = `set -e -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -xO ./usr/src/$2.tar.xz | tar -xJ -C "$3" --wildcards "$2/samples/vfio-mdev/*"`
	if _, err := output(ctx, "bash", "-c", pipe, "bash", file, sourcePackage, src); err != nil {
		return fmt.Errorf("unpacking the sample drivers: %w", err)
	}
	from := filepath.Join(src, sourcePackage, "samples", "vfio-mdev")
	for _, b := range []struct {
		dir, kbuild string
		files       []string
	}{
		{samples, kbuild, []string{"mtty.c", "mdpy.c", "mdpy-defs.h", "mbochs.c"}},
		{samples + "-rebuilt", kbuildRebuilt, []string{"mtty.c"}},
		{samples + "-newer", kbuildNewer, []string{"mtty.c"}},
	} {
		for _, name := range b.files {
			if err := copyFile(filepath.Join(b.dir, name), filepath.Join(from, name), 0o644); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(b.dir, "Kbuild"), []byte(b.kbuild), 0o644); err != nil {
			return err
		}
		if strings.HasSuffix(b.dir, "-newer") {
			if err := replaceIn(filepath.Join(b.dir, "mtty.c"), newerMinor[0], newerMinor[1]); err != nil {
				return err
			}
		}
		// The path is mapped away, in what kbuild generates too: a build-id shall
		// depend on source and flags, not on the name of a temporary directory.
		flags := "KCFLAGS=-ffile-prefix-map=" + b.dir + "=."
		if _, err := output(ctx, "make", "-j2", "-C", k.headersDir(), "M="+b.dir, flags, "modules"); err != nil {
			return fmt.Errorf("building drivers in %s: %w", b.dir, err)
		}
		built, err := filepath.Glob(filepath.Join(b.dir, "*.ko"))
		if err != nil {
			return err
		}
		// BTF goes as well: nothing here needs it, and its order differs from build to build.
		if _, err := output(ctx, "strip", append([]string{"--strip-debug", "--remove-section=.BTF"}, built...)...); err != nil {
			return err
		}
	}
	for name, module := range variants {
		built := filepath.Join(samples+strings.TrimPrefix(name, module), module+".ko")
		if err := copyFile(filepath.Join(out, "variants", name+".ko"), built, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// replaceIn changes the one place of a file that has the text.
func replaceIn(name, from, to string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if n := strings.Count(string(data), from); n != 1 {
		return fmt.Errorf("%s has %q %d times: this kernel's source is another", name, from, n)
	}
	return os.WriteFile(name, []byte(strings.Replace(string(data), from, to, 1)), 0o644)
}

func copyFile(to, from string, perm os.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, perm)
}
