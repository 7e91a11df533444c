// SPDX-License-Identifier: Apache-2.0

package mdev

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"kindred/host/proc"
	"kindred/host/tree"
	"kindred/inventory"
)

// RemoveOptions choose how hard Remove tries.
type RemoveOptions struct {
	// Force removes a device that a process has open: it leaves the bus at
	// once, and is gone when the process closes it.
	Force bool
	// Wait is how long a removal is waited for when the device is open all the
	// same; 0 stands for two seconds. A driver that takes its time, with nobody
	// seen who has the device open, is waited for thirty times as long.
	Wait time.Duration
}

// errStays is for a device that remove did not touch, as in a copy of a
// machine, where nobody acts on what is written.
var errStays = errors.New("the write was taken, and the device is still there")

const (
	defaultWait = 2 * time.Second
	slowest     = 30 // times Wait
	// heldWait is how often a removal that is forced is looked at: whether the
	// device has left the bus and somebody has it open still.
	heldWait = 200 * time.Millisecond
	often    = 5 * time.Millisecond
)

// Remove removes the device. When it returns nil, the device is gone and its
// UUID is free.
//
// The kernel's remove waits, deaf to signals, until nobody has the device open
// (vfio_unregister_group_dev() of drivers/vfio/vfio_main.c). So a device that
// is open is left alone unless forced, with an error that names who has it; and
// the write is made apart ([tree.Machine.WriteApart]), so that whoever opens
// the device in the last moment holds up a process of its own and not the
// caller: Remove then returns BeingRemoved. Such a removal cannot be taken back
// and is completed by the kernel. Every error is an [*Error].
func Remove(ctx context.Context, m tree.Machine, uuid string, opts RemoveOptions) error {
	r := removal{m: m, uuid: uuid}
	var ok bool
	if r.uuid, ok = ParseUUID(uuid); !ok {
		return r.fail(BadUUID, nil)
	}
	r.dir = path.Join(devicesDir, r.uuid)
	if !r.identify() {
		if going, found := leaving(m, r.uuid); found {
			return r.late(going, nil)
		}
		return r.fail(NoDevice, nil)
	}
	if opts.Wait == 0 {
		opts.Wait = defaultWait
	}
	if holders := r.holders(); len(holders) > 0 {
		if !opts.Force {
			e := r.fail(InUse, nil)
			e.Holders = holders
			return e
		}
	}
	ctx, cancel := context.WithTimeout(ctx, slowest*opts.Wait)
	defer cancel()
	ctx, unwatch := r.untilHeld(ctx, opts)
	defer unwatch()
	err := m.WriteApart(ctx, path.Join(r.dir, "remove"), "1")
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, tree.ErrHeldUp):
		// Of several that write at once one removes; the others are told that
		// all is well, or that it is gone, before it is (mdev_sysfs.c).
		return r.settle(ctx, opts.Wait, err)
	case errors.Is(err, fs.ErrPermission):
		return r.fail(NotPermitted, err)
	}
	return r.fail(KernelRefused, err)
}

// removal is one call of Remove.
type removal struct {
	m            tree.Machine
	uuid, dir    string
	parent, typ  string
	group, vnode inventory.Value
}

// identify reads what an error and the look for holders need.
func (r *removal) identify() bool {
	target, err := tree.Target(r.m, r.dir)
	if err != nil {
		return false
	}
	r.parent = path.Base(path.Dir(target))
	r.typ = tree.LinkBase(r.m, r.dir+"/mdev_type", ignore).Text()
	r.group = tree.LinkBase(r.m, r.dir+"/iommu_group", ignore)
	r.vnode = inventory.None()
	if nodes, err := r.m.ReadDir(r.dir + "/vfio-dev"); err == nil && len(nodes) > 0 {
		r.vnode = inventory.Of(nodes[0].Name)
	}
	return true
}

func (r *removal) holders() []proc.Process {
	return proc.ReadHolders(r.m).Processes(r.m, &inventory.Device{Group: r.group, Node: r.vnode})
}

// untilHeld ends with ctx, and earlier when the wait is over and somebody has
// the device open; of a removal that is forced, when it was begun and is held
// up: nobody who forces one needs to wait for more.
func (r *removal) untilHeld(ctx context.Context, opts RemoveOptions) (context.Context, func()) {
	wait := opts.Wait
	if opts.Force {
		wait = min(wait, heldWait)
	}
	begun := time.Now()
	return proc.UntilHeld(ctx, wait, func() bool {
		if _, left := leaving(r.m, r.uuid); !left && time.Since(begun) < opts.Wait {
			return false
		}
		return len(r.holders()) > 0
	})
}

// settle waits until neither the bus nor the parent has the device. A write
// that was taken takes a device off the bus at once: one that stays there is
// not waited for longer than wait.
func (r *removal) settle(ctx context.Context, wait time.Duration, err error) error {
	stays := time.Now().Add(wait)
	for {
		// What is past is past before it is looked: whoever is held up here must not
		// say of what he saw before that it is still so.
		tooLong, over := time.Now().After(stays), ctx.Err() != nil
		_, onBus := r.m.Readlink(r.dir)
		going, left := leaving(r.m, r.uuid)
		if errors.Is(onBus, fs.ErrNotExist) && !left {
			return nil
		}
		leaves := left || errors.Is(err, tree.ErrHeldUp)
		switch {
		case leaves && over:
			return r.late(going, err)
		case !leaves && (over || tooLong):
			if err == nil {
				err = errStays
			}
			return r.fail(KernelRefused, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(often):
		}
	}
}

// late is the error for a device that will go. One that has not left the bus
// yet has [tree.ErrHeldUp] in its error.
func (r *removal) late(going departing, err error) error {
	left := going.dir != ""
	if left {
		r.parent = going.parent
	}
	e := r.fail(BeingRemoved, nil)
	if !left || !errors.Is(err, tree.ErrHeldUp) {
		e.Err = tree.Errno(err)
	}
	e.Holders = r.holders()
	if len(e.Holders) == 0 && left {
		e.Holders = going.holders(r.m)
	}
	return e
}

func (r *removal) fail(reason Reason, err error) *Error {
	return &Error{Op: "remove", UUID: r.uuid, Parent: r.parent, Type: r.typ, Reason: reason, Err: tree.Errno(err)}
}
