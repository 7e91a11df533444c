// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"kindred/definition"
	"kindred/host"
	"kindred/host/change"
	"kindred/host/policy"
	"kindred/host/uevent"
	"kindred/inventory"
	"kindred/prove"
)

// Live is this machine, to be observed. It has nothing that could change it.
type Live struct {
	host    *host.Host
	modules []string
	changed chan struct{}

	mu       sync.Mutex
	managers *host.Managers
	asked    time.Time // when they were asked for
}

// managersAge is how old the versions of VM managers may be. A guest that runs
// has the one it was started with anyway.
const managersAge = 10 * time.Minute

// Observe opens this machine. Modules are kernel modules that builds are made
// of, besides the ones found to take part.
func Observe(modules []string) (*Live, error) {
	h, err := host.Open("/")
	if err != nil {
		return nil, err
	}
	return &Live{host: h, modules: modules, changed: make(chan struct{}, 1)}, nil
}

// Close lets go of the machine.
func (l *Live) Close() error { return l.host.Close() }

func (l *Live) Inventory(ctx context.Context) (*inventory.Inventory, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.asked) > managersAge {
		l.managers = nil
	}
	inv, err := l.host.Inventory(ctx, host.Options{Modules: l.modules, Managers: l.managers})
	if err == nil && l.managers == nil && inv.Host.QEMU.State() != inventory.NotObserved && inv.Host.Libvirt.State() != inventory.NotObserved {
		l.managers, l.asked = &host.Managers{QEMU: inv.Host.QEMU, Libvirt: inv.Host.Libvirt}, time.Now()
	}
	return inv, err
}

func (l *Live) Changed() <-chan struct{} { return l.changed }

// Listen hears the kernel tell of devices that come and go, until ctx ends.
// That somebody opens or closes one the kernel does not tell.
func (l *Live) Listen(ctx context.Context) error {
	conn, err := uevent.Listen()
	if err != nil {
		return fmt.Errorf("listen to the kernel: %w", err)
	}
	defer conn.Close()
	for {
		e, err := conn.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, uevent.ErrOverrun), err == nil && ofDevices(&e):
			kick(l.changed)
		case err != nil:
			return fmt.Errorf("listen to the kernel: %w", err)
		}
	}
}

// ofDevices reports whether an event may be of a parent or a device.
func ofDevices(e *uevent.Event) bool {
	return e.Subsystem == "mdev" || e.Subsystem == "vfio-dev" || e.Vars["MDEV_STATE"] != "" || e.Subsystem == "pci" && e.Action != "change"
}

// LiveManaged is this machine, to be changed as its operator's policy allows.
type LiveManaged struct {
	*Live
	devices     *change.Host
	definitions *definition.Store
}

var _ Proving = (*LiveManaged)(nil)

// Manage opens this machine to be managed.
func Manage(modules []string) (*LiveManaged, error) {
	l, err := Observe(modules)
	if err != nil {
		return nil, err
	}
	devices, err := change.Open("/")
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	definitions, err := definition.Open("/")
	if err != nil {
		return nil, errors.Join(err, devices.Close(), l.Close())
	}
	return &LiveManaged{l, devices, definitions}, nil
}

// Close lets go of the machine.
func (l *LiveManaged) Close() error {
	return errors.Join(l.definitions.Close(), l.devices.Close(), l.Live.Close())
}

func (l *LiveManaged) Policy() (*policy.Policy, error) { return policy.Read(l.devices.Machine) }

func (l *LiveManaged) Start(ctx context.Context, req change.Request) (change.Device, error) {
	return l.devices.Start(ctx, req)
}

func (l *LiveManaged) Stop(ctx context.Context, id string) error {
	return l.devices.Stop(ctx, id, change.StopOptions{})
}

// Canaries opens this machine once more: its policy is as it is now.
func (l *LiveManaged) Canaries(order string) (CanaryHost, error) {
	return prove.OpenLive(l.modules, order)
}

// SweepCanaries removes canaries whose process is no more.
func (l *LiveManaged) SweepCanaries(ctx context.Context) error {
	h, err := prove.OpenLive(l.modules, prove.Local)
	if err != nil {
		return err
	}
	_, err = h.Sweep(ctx)
	return errors.Join(err, h.Close())
}

func (l *LiveManaged) Define(ctx context.Context, d *definition.Definition) error {
	return l.definitions.Define(ctx, d)
}

func (l *LiveManaged) Undefine(ctx context.Context, parent, id string) error {
	return l.definitions.Undefine(ctx, parent, id)
}

func (l *LiveManaged) Repair(ctx context.Context) error {
	list, err := l.devices.Repair(ctx, false)
	for _, r := range list {
		if r.Err != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", r.ID, r.Err))
		}
	}
	return err
}
