// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import "context"

// libvirtPackages are what libvirt's node-device driver runs with.
var libvirtPackages = []string{"libvirt-daemon", "libvirt-daemon-driver-nodedev", "libvirt-clients", "udev"}

// libvirtSuite is the release they are of: its libvirt is 11.3.
const libvirtSuite = "trixie"

// PrepareLibvirt makes sure that libvirt is in the cache, some 60 MB to download.
func PrepareLibvirt(ctx context.Context, cacheDir string, logf func(format string, args ...any)) (*Userland, error) {
	return PrepareUserland(ctx, cacheDir, libvirtSuite, libvirtPackages, logf)
}
