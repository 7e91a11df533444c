// SPDX-License-Identifier: Apache-2.0

package prove

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"kindred/host"
	"kindred/host/change"
	"kindred/host/kmsg"
	"kindred/host/mdev"
	"kindred/host/policy"
	"kindred/host/vfio"
	"kindred/inventory"
)

// Live makes canaries on this machine, where its operator allows it.
type Live struct {
	devices *change.Host
	host    *host.Host
	policy  *policy.Policy
	modules []string
	ledger  ledger
	order   string

	mu   sync.Mutex
	made map[string]*entry
}

// ledgerDir has the canaries of the live machine on record.
const ledgerDir = "/var/lib/kindred/canaries"

// OpenLive opens this machine. Modules are kernel modules that builds are made
// of, besides the ones found to take part. Its canaries are marked with what
// they are for: a server's order, or Local.
func OpenLive(modules []string, order string) (*Live, error) {
	devices, err := change.Open("/")
	if err != nil {
		return nil, fmt.Errorf("open this machine: %w", err)
	}
	l := &Live{devices: devices, modules: modules, ledger: ledger{ledgerDir}, order: order, made: make(map[string]*entry)}
	if l.policy, err = policy.Read(devices.Machine); err != nil {
		return nil, errors.Join(err, devices.Close())
	}
	if l.host, err = host.Open("/"); err != nil {
		return nil, errors.Join(err, devices.Close())
	}
	return l, nil
}

// Close lets go of the machine. A canary that could not be removed stays on
// record for a sweep, also one of this process.
func (l *Live) Close() (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.made {
		err = errors.Join(err, e.file.Close())
	}
	clear(l.made)
	return errors.Join(err, l.host.Close(), l.devices.Close())
}

// Allows reports whether the operator allows canaries of the type there.
func (l *Live) Allows(parent string, t inventory.TypeName) bool { return l.policy.Canary(parent, t) }

func (l *Live) Inventory(ctx context.Context) (*inventory.Inventory, error) {
	return l.host.Inventory(ctx, host.Options{Modules: l.modules})
}

func (l *Live) Make(ctx context.Context, parent string, t inventory.TypeName) (string, error) {
	if !l.policy.Canary(parent, t) {
		return "", &NotAllowedError{parent, t}
	}
	id := mdev.NewUUID()
	e, err := l.ledger.write(id)
	if err != nil {
		return "", fmt.Errorf("put it on record: %w", err)
	}
	if _, err := l.devices.Start(ctx, change.Request{Kind: inventory.Mdev, ID: id, Parent: parent, Type: t.Full(), Canary: l.order}); err != nil {
		return "", errors.Join(err, e.erase())
	}
	l.mu.Lock()
	l.made[id] = e
	l.mu.Unlock()
	return id, nil
}

func (l *Live) Open(_ context.Context, id string) (vfio.Device, error) {
	return vfio.Open(id, vfio.OpenOptions{})
}

func (l *Live) Remove(ctx context.Context, id string) error {
	if err := l.remove(ctx, id); err != nil {
		return err
	}
	l.mu.Lock()
	e := l.made[id]
	delete(l.made, id)
	l.mu.Unlock()
	if e == nil {
		return nil
	}
	return e.erase()
}

// remove waits for a last descriptor to be closed: files of a process that was
// killed are closed one after the other.
func (l *Live) remove(ctx context.Context, id string) error {
	for {
		err := l.devices.Stop(ctx, id, change.StopOptions{})
		changing, isChange := errors.AsType[*change.Error](err)
		removing, isRemove := errors.AsType[*mdev.Error](err)
		switch {
		case err == nil, isRemove && removing.Reason == mdev.NoDevice:
			_, err := l.devices.Records.Sweep(id) // a write of its record that was cut short
			return err
		case isChange && changing.Reason == change.InUse, isRemove && (removing.Reason == mdev.InUse || removing.Reason == mdev.BeingRemoved):
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

func (l *Live) Listen() func([]string) []string {
	k, err := kmsg.Listen()
	if err != nil {
		return func([]string) []string { return []string{"(the kernel's log could not be read: " + err.Error() + ")"} }
	}
	return func(subjects []string) []string {
		defer k.Close()
		// Of every device that comes and goes the kernel says this (iommu.c); it
		// would hide what a driver says.
		return slices.DeleteFunc(kmsg.About(k.Lines(), subjects), func(line string) bool {
			return strings.Contains(line, ": Adding to iommu group ") || strings.Contains(line, ": Removing from iommu group ")
		})
	}
}

// Sweep removes canaries that a killed process left behind, and returns their
// ids. One that somebody has open stays, on record, for the next sweep.
func (l *Live) Sweep(ctx context.Context) ([]string, error) {
	return l.ledger.sweep(ctx, func(ctx context.Context, id string) error {
		ctx, cancel := context.WithTimeout(ctx, sweepWait)
		defer cancel()
		return l.remove(ctx, id)
	})
}

// sweepAll sweeps until no canary is on record, or patience is over: what is
// left is in use then.
func (l *Live) sweepAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		_, err := l.Sweep(ctx)
		if !l.ledger.busy() {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}
