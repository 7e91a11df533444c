// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"kindred/lab/internal/config"
)

// mounts in the order a distribution makes them. Options follow systemd's, so
// that a program tried here meets the modes it will meet on a real host.
var mounts = []struct {
	fstype, target string
	flags          uintptr
	options        string
}{
	{"proc", "/proc", syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC, ""},
	{"sysfs", "/sys", syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC, ""},
	{"devtmpfs", "/dev", syscall.MS_NOSUID, "mode=0755"},
	{"devpts", "/dev/pts", syscall.MS_NOSUID | syscall.MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"},
	{"tmpfs", "/dev/shm", syscall.MS_NOSUID | syscall.MS_NODEV, "mode=1777"},
	{"debugfs", "/sys/kernel/debug", syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC, ""},
	{"cgroup2", "/sys/fs/cgroup", syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC, ""},
	{"tmpfs", "/run", syscall.MS_NOSUID | syscall.MS_NODEV, "mode=0755"},
	{"tmpfs", "/tmp", syscall.MS_NOSUID | syscall.MS_NODEV, "mode=1777"},
}

var links = [][2]string{
	{"/proc/self/fd", "/dev/fd"},
	{"/proc/self/fd/0", "/dev/stdin"},
	{"/proc/self/fd/1", "/dev/stdout"},
	{"/proc/self/fd/2", "/dev/stderr"},
	{"/proc/self/mounts", "/etc/mtab"},
}

func boot() (*config.Config, error) {
	data, err := os.ReadFile(config.Path)
	if err != nil {
		return nil, fmt.Errorf("reading what this host is to be: %w", err)
	}
	c := config.Config{}
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("reading %s: %w", config.Path, err)
	}
	if err := switchRoot(&c); err != nil {
		return nil, err
	}
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return nil, fmt.Errorf("making the mount point %s: %w", m.target, err)
		}
		if err := syscall.Mount(m.fstype, m.target, m.fstype, m.flags, m.options); err != nil {
			return nil, fmt.Errorf("mounting %s on %s: %w", m.fstype, m.target, err)
		}
	}
	for _, l := range links {
		if err := os.Symlink(l[0], l[1]); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("linking %s: %w", l[1], err)
		}
	}
	if err := syscall.Sethostname([]byte(c.Hostname)); err != nil {
		return nil, fmt.Errorf("naming the host %q: %w", c.Hostname, err)
	}
	os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	os.Setenv("HOME", "/root")
	os.Setenv("TERM", "linux")
	if err := run("/bin/busybox", "--install", "-s"); err != nil {
		return nil, err
	}
	for _, m := range c.Modules {
		if err := load(m); err != nil {
			return nil, err
		}
	}
	return &c, network(c)
}

// load inserts one module; its dependencies stand before it in the list.
func load(m config.Module) error {
	f, err := os.Open(m.Path)
	if err != nil {
		return fmt.Errorf("loading a module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), m.Params, 0); err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("loading %s with parameters %q: %w (see the kernel log above)", m.Path, m.Params, err)
	}
	return nil
}

// network sets the addresses of QEMU's user-mode network, which are always the
// same: no DHCP client is needed.
func network(c config.Config) error {
	if err := run("ip", "link", "set", "lo", "up"); err != nil {
		return err
	}
	var commands []string
	if c.Network {
		commands = append(commands, "addr add 10.0.2.15/24 dev eth0", "link set eth0 up", "route add default via 10.0.2.2")
	}
	if c.LAN != "" {
		commands = append(commands, "addr add "+c.LAN+" dev eth1", "link set eth1 up")
	}
	for _, args := range commands {
		if err := run("ip", strings.Fields(args)...); err != nil {
			return err
		}
	}
	return nil
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
