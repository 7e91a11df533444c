// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"kindred/lab/internal/config"
)

// switchRoot makes a disk the root file system: below, never written to, the
// disk; over it the initramfs, so that what the lab puts there is found first;
// over both memory, which takes all changes.
func switchRoot(c *config.Config) error {
	if c.Disk == "" {
		return nil
	}
	for _, dir := range []string{"/dev", "/proc", "/.disk", "/.changes", "/.root"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making the mount point %s: %w", dir, err)
		}
	}
	for _, m := range c.DiskModules {
		if err := load(m); err != nil {
			return err
		}
	}
	if err := syscall.Mount("devtmpfs", "/dev", "devtmpfs", 0, ""); err != nil {
		return fmt.Errorf("mounting /dev: %w", err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(c.Disk); err == nil {
			break
		} else if time.Now().After(end) {
			return fmt.Errorf("the disk does not appear: %w", err)
		}
	}
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
		options                string
	}{
		{c.Disk, "/.disk", "ext4", syscall.MS_RDONLY, "noload"},
		{"tmpfs", "/.changes", "tmpfs", 0, "mode=0755,size=90%"},
		{"overlay", "/.root", "overlay", 0, "lowerdir=/:/.disk,upperdir=/.changes/upper,workdir=/.changes/work"},
	} {
		if m.fstype == "overlay" {
			for _, dir := range []string{"/.changes/upper", "/.changes/work"} {
				if err := os.Mkdir(dir, 0o755); err != nil {
					return fmt.Errorf("making room for changes: %w", err)
				}
			}
		}
		if err := syscall.Mount(m.source, m.target, m.fstype, m.flags, m.options); err != nil {
			return fmt.Errorf("mounting %s on %s: %w", m.source, m.target, err)
		}
	}
	if err := os.Chdir("/.root"); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := syscall.Mount(".", "/", "", syscall.MS_MOVE, ""); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := syscall.Chroot("."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	return os.Chdir("/")
}
