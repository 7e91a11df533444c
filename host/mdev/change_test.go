// SPDX-License-Identifier: Apache-2.0

//go:build linux

package mdev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"kindred/host/tree"
)

const (
	uuid1 = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
	uuid2 = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002"
)

// bus is a machine with one parent, card, whose types share two places. What
// the kernel does on a write is done by write.
type bus struct {
	tree.Dir
	t     *testing.T
	root  string
	write func(b *bus, name, text string) error
	slow  time.Duration // after a link was read
}

func newBus(t *testing.T) *bus {
	t.Helper()
	b := &bus{t: t, root: t.TempDir()}
	for _, typ := range []string{"drv-a", "drv-b"} {
		dir := "sys/devices/card/mdev_supported_types/" + typ
		b.file(dir+"/create", "")
		b.file(dir+"/name", typ)
		b.file(dir+"/device_api", "vfio-pci")
		b.file(dir+"/available_instances", "2")
	}
	b.link("sys/class/mdev_bus/card", "../../devices/card")
	b.link("sys/devices/card/driver", "../../bus/x/drivers/drv")
	b.file("sys/bus/mdev/devices/.keep", "")
	if err := os.Remove(filepath.Join(b.root, "sys/bus/mdev/devices/.keep")); err != nil {
		t.Fatal(err)
	}
	d, err := tree.Open(b.root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	b.Dir = d
	return b
}

func (b *bus) file(name, text string) {
	path := filepath.Join(b.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bus) link(name, target string) {
	path := filepath.Join(b.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
		b.t.Fatal(err)
	}
}

// device is what the kernel shows of a device, on the bus and below its parent.
func (b *bus) device(uuid, typ string) {
	b.file("sys/devices/card/"+uuid+"/remove", "")
	b.link("sys/devices/card/"+uuid+"/mdev_type", "../mdev_supported_types/"+typ)
	b.link("sys/devices/card/"+uuid+"/iommu_group", "../../../kernel/iommu_groups/7")
	b.link("sys/bus/mdev/devices/"+uuid, "../../../devices/card/"+uuid)
}

func (b *bus) offBus(uuid string) { os.Remove(filepath.Join(b.root, "sys/bus/mdev/devices", uuid)) }
func (b *bus) gone(uuid string) {
	b.offBus(uuid)
	os.RemoveAll(filepath.Join(b.root, "sys/devices/card", uuid))
}

// holder is a process that has group 7 open.
func (b *bus) holder(pid int, name string) {
	b.file(fmt.Sprintf("proc/%d/comm", pid), name+"\n")
	b.link(fmt.Sprintf("proc/%d/fd/9", pid), "/dev/vfio/7")
}

func (b *bus) WriteAttr(name, text string) error {
	if _, err := b.Mode(name); err != nil {
		return err
	}
	if err := b.write(b, name, text); err != nil {
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}

func (b *bus) Readlink(name string) (string, error) {
	target, err := b.Dir.Readlink(name)
	time.Sleep(b.slow)
	return target, err
}

func (b *bus) WriteApart(_ context.Context, name, text string) error { return b.WriteAttr(name, text) }

func answer(err error) func(*bus, string, string) error {
	return func(*bus, string, string) error { return err }
}

func TestCreate(t *testing.T) {
	b := newBus(t)
	b.write = func(b *bus, name, text string) error {
		if name != "sys/class/mdev_bus/card/mdev_supported_types/drv-a/create" || text != uuid1 {
			t.Errorf("%q was written to %s", text, name)
		}
		return nil
	}
	if err := Create(b, "card", "drv-a", strings.ToUpper(uuid1)); err != nil {
		t.Error(err)
	}
}

// TestCreateErrors: each names the thing and what stands in the way.
func TestCreateErrors(t *testing.T) {
	for name, c := range map[string]struct {
		prepare            func(b *bus)
		parent, typ, uuid  string
		kernel             error
		reason             Reason
		text               []string
		users, holderCount int
	}{
		"not a UUID":        {parent: "card", typ: "drv-a", uuid: "83b8f4f2", reason: BadUUID, text: []string{"83b8f4f2", "xxxxxxxx-"}},
		"a line end":        {parent: "card", typ: "drv-a", uuid: uuid1 + "\n", reason: BadUUID},
		"no parent":         {parent: "car", typ: "drv-a", uuid: uuid1, reason: NoParent, text: []string{"parents: card"}},
		"a parent's path":   {parent: "../card", typ: "drv-a", uuid: uuid1, reason: NoParent},
		"no type":           {parent: "card", typ: "drv-c", uuid: uuid1, reason: NoType, text: []string{"it offers: drv-a, drv-b"}},
		"a type's path":     {parent: "card", typ: "../drv-a", uuid: uuid1, reason: NoType},
		"a parent going":    {parent: "card", typ: "drv-a", uuid: uuid1, kernel: unix.ENODEV, reason: KernelRefused, text: []string{"no such device"}},
		"not root":          {parent: "card", typ: "drv-a", uuid: uuid1, kernel: unix.EACCES, reason: NotPermitted, text: []string{"root"}},
		"the driver's word": {parent: "card", typ: "drv-a", uuid: uuid1, kernel: unix.EIO, reason: KernelRefused, text: []string{"input/output error"}},
		"no room": {
			prepare: func(b *bus) { b.device(uuid2, "drv-b") },
			parent:  "card", typ: "drv-a", uuid: uuid1, kernel: unix.ENOSPC, reason: NoRoom, users: 1, text: []string{"as drv-a on card", "1 in use", uuid2 + " (drv-b)", "no space left"},
		},
		"none left of the core's": {parent: "card", typ: "drv-a", uuid: uuid1, kernel: unix.EUSERS, reason: NoRoom},
		"none left, said otherwise": {
			prepare: func(b *bus) { b.file("sys/devices/card/mdev_supported_types/drv-a/available_instances", "0\n") },
			parent:  "card", typ: "drv-a", uuid: uuid1, kernel: unix.EIO, reason: NoRoom,
		},
		"taken": {
			prepare: func(b *bus) { b.device(uuid1, "drv-b") },
			parent:  "card", typ: "drv-a", uuid: uuid1, kernel: unix.EEXIST, reason: Taken, users: 1, text: []string{"of type drv-b on card"},
		},
		"taken by one that leaves": {
			prepare: func(b *bus) { b.device(uuid1, "drv-b"); b.offBus(uuid1); b.holder(71, "qemu") },
			parent:  "card", typ: "drv-a", uuid: uuid1, kernel: unix.EEXIST, reason: BeingRemoved, holderCount: 1, text: []string{"still being removed", "process 71 (qemu)"},
		},
		"taken by nobody seen": {parent: "card", typ: "drv-a", uuid: uuid1, kernel: unix.EEXIST, reason: Taken, text: []string{"try again"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBus(t)
			b.write = answer(c.kernel)
			if c.prepare != nil {
				c.prepare(b)
			}
			err := Create(b, c.parent, c.typ, c.uuid)
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Reason != c.reason || len(e.Users) != c.users || len(e.Holders) != c.holderCount {
				t.Fatalf("%+v, want reason %s, %d users, %d holders", err, c.reason, c.users, c.holderCount)
			}
			for _, want := range append(c.text, strings.ToLower(c.uuid)[:8]) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

// TestRemove: the device is gone when Remove says so, and what it does about
// one that is open is what was asked for.
func TestRemove(t *testing.T) {
	removes := func(b *bus, _, _ string) error { b.gone(uuid1); return nil }
	leaves := func(b *bus, name, _ string) error {
		b.offBus(uuid1)
		return fmt.Errorf("%w: %w", tree.ErrHeldUp, context.DeadlineExceeded)
	}
	for name, c := range map[string]struct {
		prepare func(b *bus)
		write   func(*bus, string, string) error
		opts    RemoveOptions
		reason  Reason // "": it is gone
		text    string
	}{
		"idle":         {write: removes},
		"open":         {prepare: func(b *bus) { b.holder(71, "qemu") }, write: removes, reason: InUse, text: "process 71 (qemu)"},
		"open, forced": {prepare: func(b *bus) { b.holder(71, "qemu") }, write: leaves, opts: RemoveOptions{Force: true}, reason: BeingRemoved, text: "process 71 (qemu)"},
		"opened late":  {write: func(b *bus, name, text string) error { b.holder(71, "qemu"); return leaves(b, name, text) }, reason: BeingRemoved, text: "process 71 (qemu)"},
		"forced, and the driver is slow": {opts: RemoveOptions{Force: true, Wait: 20 * time.Millisecond}, write: func(b *bus, _, _ string) error {
			b.offBus(uuid1)
			time.AfterFunc(400*time.Millisecond, func() { b.gone(uuid1) })
			return nil
		}},
		"slow driver": {opts: RemoveOptions{Wait: 20 * time.Millisecond}, write: func(b *bus, _, _ string) error {
			b.offBus(uuid1)
			time.AfterFunc(200*time.Millisecond, func() { b.gone(uuid1) })
			return nil
		}},
		"slower than any":    {opts: RemoveOptions{Wait: 5 * time.Millisecond}, write: leaves, reason: BeingRemoved},
		"held up on the bus": {opts: RemoveOptions{Wait: 5 * time.Millisecond}, write: answer(tree.ErrHeldUp), reason: BeingRemoved, text: "holds the write up"},
		"another's": {write: func(b *bus, _, _ string) error {
			time.AfterFunc(20*time.Millisecond, func() { b.gone(uuid1) })
			return nil
		}},
		"another's, and nobody looks": {prepare: func(b *bus) { b.slow = time.Second }, write: func(b *bus, _, _ string) error {
			time.AfterFunc(20*time.Millisecond, func() { b.gone(uuid1) })
			return nil
		}},
		"another's too": {write: func(b *bus, _, _ string) error {
			b.offBus(uuid1)
			time.AfterFunc(20*time.Millisecond, func() { b.gone(uuid1) })
			return fs.ErrNotExist
		}},
		"not root":     {write: answer(unix.EACCES), reason: NotPermitted, text: "root"},
		"not made yet": {write: answer(unix.EAGAIN), reason: KernelRefused, text: "temporarily"},
		"nobody acts":  {write: answer(nil), reason: KernelRefused, text: "still there"},
		"none":         {prepare: func(b *bus) { b.gone(uuid1) }, reason: NoDevice},
		"leaving":      {prepare: func(b *bus) { b.offBus(uuid1); b.holder(71, "qemu") }, reason: BeingRemoved, text: "process 71 (qemu)"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBus(t)
				b.device(uuid1, "drv-a")
				if c.prepare != nil {
					c.prepare(b)
				}
				b.write = func(b *bus, name, text string) error {
					if name != "sys/bus/mdev/devices/"+uuid1+"/remove" || text != "1" {
						t.Errorf("%q was written to %s", text, name)
					}
					return c.write(b, name, text)
				}
				if c.opts.Wait == 0 {
					c.opts.Wait = 200 * time.Millisecond
				}
				err := Remove(t.Context(), b, strings.ToUpper(uuid1), c.opts)
				if c.reason == "" {
					if _, there := b.Mode("sys/devices/card/" + uuid1); err != nil || there == nil {
						t.Errorf("%v; the device is there: %t", err, there == nil)
					}
					return
				}
				if e, ok := errors.AsType[*Error](err); !ok || e.Reason != c.reason || !strings.Contains(err.Error(), c.text) {
					t.Errorf("%v, want reason %s and %q", err, c.reason, c.text)
				}
			})
		})
	}
	if err := Remove(t.Context(), newBus(t), "83b8", RemoveOptions{}); err == nil {
		t.Error("83b8 was taken as a UUID")
	}
}

func TestUUID(t *testing.T) {
	seen := make(map[string]bool)
	for range 100 {
		id := NewUUID()
		if parsed, ok := ParseUUID(id); !ok || parsed != id || id[14] != '4' || !strings.ContainsRune("89ab", rune(id[19])) || seen[id] {
			t.Fatalf("%s is not a new UUID of version 4", id)
		}
		seen[id] = true
	}
}
