// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"kindred/vm"
)

// ErrNoGuest is a VM of another name than the QEMU's.
var ErrNoGuest = errors.New("this QEMU runs another VM")

// Guest is the VM, with the host's devices that it has.
func (c *Conn) Guest(ctx context.Context) (*vm.Guest, error) {
	var name struct {
		Name string `json:"name"`
	}
	var id struct {
		UUID string `json:"UUID"`
	}
	if err := errors.Join(c.Execute(ctx, "query-name", nil, &name), c.Execute(ctx, "query-uuid", nil, &id)); err != nil {
		return nil, err
	}
	state, err := c.state(ctx)
	if err != nil {
		return nil, err
	}
	g := &vm.Guest{Name: name.Name, UUID: strings.ToLower(id.UUID), State: state, Devices: []vm.Device{}}
	if strings.Trim(g.UUID, "0-") == "" {
		g.UUID = "" // it was given none
	}
	if g.Name == "" {
		g.Name = path.Base(c.socket)
	}
	for _, room := range []string{"/machine/peripheral", "/machine/peripheral-anon"} {
		devices, err := c.devices(ctx, room)
		if err != nil {
			return nil, err
		}
		g.Devices = append(g.Devices, devices...)
	}
	slices.SortFunc(g.Devices, func(a, b vm.Device) int { return strings.Compare(a.ID, b.ID) })
	return g, nil
}

// state is how the VM is (qapi/run-state.json, RunState).
func (c *Conn) state(ctx context.Context) (vm.State, error) {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	var s struct {
		Status string `json:"status"`
	}
	if err := c.Execute(ctx, "query-status", nil, &s); err != nil {
		return vm.Unknown, err
	}
	switch s.Status {
	case "running":
		return vm.Running, nil
	case "paused", "io-error", "watchdog", "debug":
		return vm.Paused, nil
	case "inmigrate", "finish-migrate", "restore-vm":
		return vm.Incoming, nil
	case "suspended":
		return vm.Asleep, nil
	case "shutdown", "postmigrate", "guest-panicked", "internal-error", "prelaunch", "colo":
		return vm.Off, nil
	}
	return vm.Unknown, nil
}

// devices are the VFIO devices in one room of QEMU's object tree.
func (c *Conn) devices(ctx context.Context, room string) (list []vm.Device, err error) {
	var children []struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	if err := c.Execute(ctx, "qom-list", map[string]string{"path": room}, &children); err != nil {
		return nil, err
	}
	for _, child := range children {
		model, ok := strings.CutPrefix(strings.TrimSuffix(child.Type, ">"), "child<")
		if !ok || !strings.HasPrefix(model, "vfio-") {
			continue
		}
		object := room + "/" + child.Name
		d, err := c.device(ctx, object)
		if err != nil {
			return nil, fmt.Errorf("device %s: %w", object, err)
		}
		d.Model = strings.TrimSuffix(model, "-nohotplug")
		list = append(list, *d)
	}
	return list, nil
}

// function is how the kernel writes a PCI address.
var function = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$`)
})

var mediated = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
})

// device finds out which of the host's devices an object has. QEMU fills in the
// path of one that was named by its address (hw/vfio/pci.c, vfio_pci_realize);
// where it was given an open file, the address is all there is.
func (c *Conn) device(ctx context.Context, object string) (*vm.Device, error) {
	var said []string
	for _, property := range []string{"sysfsdev", "host"} {
		var text string
		err := c.Execute(ctx, "qom-get", map[string]string{"path": object, "property": property}, &text)
		if _, refused := errors.AsType[*Error](err); refused {
			continue // this model has no such property
		}
		if err != nil {
			return nil, err
		}
		id := strings.ToLower(path.Base(text))
		if mediated().MatchString(id) {
			return &vm.Device{ID: id, Mdev: true}, nil
		}
		if function().MatchString(id) {
			return &vm.Device{ID: id}, nil
		}
		said = append(said, property+" "+fmt.Sprintf("%q", text))
	}
	return nil, fmt.Errorf("QEMU does not say which device of the host it is (%s)", strings.Join(said, ", "))
}
