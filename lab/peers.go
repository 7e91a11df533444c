// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"fmt"
)

// libvirtPackages are what libvirt's node-device driver runs with.
var libvirtPackages = []string{"libvirt-daemon", "libvirt-daemon-driver-nodedev", "libvirt-clients", "udev"}

// libvirtSuite is the release they are of: its libvirt is 11.3.
const libvirtSuite = "trixie"

// PrepareLibvirt makes sure that libvirt is in the cache, some 60 MB to download.
func PrepareLibvirt(ctx context.Context, cacheDir string, logf func(format string, args ...any)) (*Userland, error) {
	return PrepareUserland(ctx, cacheDir, libvirtSuite, libvirtPackages, logf)
}

// PrepareMdevctl makes sure that mdevctl 1.4.0 is in the cache, and returns the
// command that runs it on this machine, with blanks between its words.
func PrepareMdevctl(ctx context.Context, cacheDir string, logf func(format string, args ...any)) (string, error) {
	u, err := PrepareUserland(ctx, cacheDir, "trixie", []string{"mdevctl"}, logf)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%[1]s/usr/lib64/ld-linux-x86-64.so.2 --library-path %[1]s/usr/lib/x86_64-linux-gnu %[1]s/usr/bin/mdevctl", u.Dir), nil
}
