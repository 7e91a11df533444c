// SPDX-License-Identifier: Apache-2.0

// Package manager finds the versions of the VM managers installed on this
// host, by asking the programs themselves.
package manager

import (
	"context"
	"errors"
	"io/fs"
	"os/exec"
	"regexp"
	"runtime"
	"sync"
	"time"

	"kindred/host/tree"
	"kindred/inventory"
)

// limit is how long a program may take to print its version.
const limit = 5 * time.Second

// version is compiled when first needed: listings start without it.
var version = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\b\d+\.\d+(\.\d+)*\b`)
})

// QEMU is the version of the system emulator for this machine's architecture.
func QEMU(ctx context.Context, warn tree.Warn) inventory.Value {
	return ask(ctx, warn, "/usr/bin/qemu-system-"+qemuArch(), "/usr/libexec/qemu-kvm", "/usr/bin/qemu-kvm")
}

// Libvirt is the version of libvirt's QEMU daemon.
func Libvirt(ctx context.Context, warn tree.Warn) inventory.Value {
	return ask(ctx, warn, "/usr/sbin/virtqemud", "/usr/sbin/libvirtd")
}

// ask returns the version that the first program that exists prints; absent
// when none exists.
func ask(ctx context.Context, warn tree.Warn, programs ...string) inventory.Value {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, program := range programs {
		cmd := exec.CommandContext(ctx, program, "--version")
		cmd.WaitDelay = time.Second
		out, err := cmd.Output()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			warn(program, err)
			return inventory.Value{}
		}
		if v := version().Find(out); v != nil {
			return inventory.Of(string(v))
		}
		warn(program, errors.New("prints no version"))
		return inventory.Value{}
	}
	return inventory.None()
}

func qemuArch() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	case "386":
		return "i386"
	case "ppc64le":
		return "ppc64"
	}
	return runtime.GOARCH
}
