// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"kindred/host/tree"
	"kindred/host/vfio"
)

// Setup says what a machine is.
type Setup struct {
	Name    string
	Kernel  string // its release; empty: 6.12.0-sim
	Parents []Parent
}

// Parent is a device that offers a driver's types.
type Parent struct {
	Name   string
	Driver *Driver
	Units  int // what its instances share; 0: 16
}

// Machine is a machine. Make one with New.
type Machine struct {
	dirAt
	// Faults of all its devices.
	Faults Faults

	devices map[string]*instance
	groups  int // numbers given so far, as the kernel's they are not used again
	opened  int
	log     log
}

var _ tree.Machine = (*Machine)(nil)

// parent is a Parent in its machine.
type parent struct {
	Parent
	dir  string
	left int
}

// instance is a device in its machine.
type instance struct {
	*state
	parent  *parent
	group   int
	leaving bool
	free    chan struct{} // closed when nobody has it open any more
	holder  int           // number of its descriptor in /proc; 0: not open
}

// New makes a machine. Parents of one namespace have one driver.
func New(s Setup) (*Machine, error) {
	m := &Machine{devices: make(map[string]*instance)}
	m.files = newFiles()
	m.at = m.root
	if s.Name == "" {
		return nil, errors.New("simulate a machine: it has no name")
	}
	if s.Kernel == "" {
		s.Kernel = "6.12.0-sim"
	}
	m.system(s)
	drivers := make(map[string]*Driver)
	for i := range s.Parents {
		p := &parent{Parent: s.Parents[i], left: s.Parents[i].Units}
		if p.left == 0 {
			p.left = 16
		}
		d := p.Driver
		switch {
		case d == nil || p.Name == "" || strings.ContainsAny(p.Name, "/\x00"):
			return nil, fmt.Errorf("simulate %s: parent %q has no name or no driver", s.Name, p.Name)
		case d.Namespace == "" || len(d.Types) == 0:
			return nil, fmt.Errorf("simulate %s: the driver of parent %s has no namespace or no types", s.Name, p.Name)
		case drivers[d.Namespace] != nil && drivers[d.Namespace] != d:
			return nil, fmt.Errorf("simulate %s: two drivers of the namespace %s exclude each other", s.Name, d.Namespace)
		}
		if drivers[d.Namespace] == nil {
			drivers[d.Namespace] = d
			m.driver(d)
		}
		p.dir = "sys/devices/sim/" + p.Name
		if m.root.dir("sys/class/mdev_bus").children[p.Name] != nil {
			return nil, fmt.Errorf("simulate %s: two parents of the name %s", s.Name, p.Name)
		}
		m.parent(p)
	}
	return m, nil
}

// WriteAttr writes an attribute; a removal of a device that is open waits.
func (m *Machine) WriteAttr(name, text string) error { return m.write(name, text) }

// WriteApart is WriteAttr that waits no longer than ctx.
func (m *Machine) WriteApart(ctx context.Context, name, text string) error {
	done := make(chan error, 1)
	go func() { done <- m.write(name, text) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return &fs.PathError{Op: "write", Path: name, Err: fmt.Errorf("%w: %w", tree.ErrHeldUp, context.Cause(ctx))}
	}
}

// Open opens a device by its UUID, as the kernel's groups do: one at a time.
func (m *Machine) Open(uuid string) (vfio.Device, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dev := m.devices[strings.ToLower(uuid)]
	if dev == nil || dev.leaving {
		return nil, fmt.Errorf("simulated open of %s: %w", uuid, unix.ENODEV)
	}
	d, err := dev.openDevice(func() { m.released(dev) })
	if err != nil {
		return nil, err
	}
	m.opened++
	dev.holder = m.opened
	m.root.symlink(fmt.Sprintf("proc/%d/fd/%d", holderPID, dev.holder), "/dev/vfio/"+strconv.Itoa(dev.group))
	return d, nil
}

// Log is what drivers said since the machine's start, as the kernel's log has
// it: why they refused a state. Lines before the last thousand are gone.
func (m *Machine) Log() []string { return m.log.read() }

// log is a machine's kernel log.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == 1000 {
		l.lines = slices.Delete(l.lines, 0, 1)
	}
	l.lines = append(l.lines, line)
}

func (l *log) read() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

// holderPID is the process that has open devices open.
const holderPID = 1000

// released is the last close of a device.
func (m *Machine) released(dev *instance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.root.dir(fmt.Sprintf("proc/%d/fd", holderPID)).remove(strconv.Itoa(dev.holder))
	dev.holder = 0
	if dev.free != nil {
		close(dev.free)
		dev.free = nil
	}
}

// available is how many of a type the parent has room for; with the lock held.
func (p *parent) available(t *Type) int { return p.left / t.units() }

// create is create_store() and mdev_device_create() of drivers/vfio/mdev.
func (m *Machine) create(p *parent, t *Type, text string) error {
	if len(text) < 36 || len(text) > 37 || !isUUID(text[:36]) {
		return unix.EINVAL
	}
	uuid := strings.ToLower(text[:36])
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.devices[uuid] != nil:
		return unix.EEXIST
	case p.available(t) == 0:
		return unix.ENOSPC
	}
	p.left -= t.units()
	dev := &instance{state: newState(uuid, p.Driver, t, &m.Faults, m.log.add), parent: p, group: m.groups}
	m.groups++
	m.devices[uuid] = dev
	m.device(dev)
	return nil
}

// remove is remove_store() and vfio_unregister_group_dev(): the device leaves
// the bus at once, and the rest waits until nobody has it open.
func (m *Machine) remove(dev *instance, text string) error {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 0, 64)
	if err != nil {
		return unix.EINVAL
	}
	if n == 0 {
		return nil
	}
	m.mu.Lock()
	if dev.leaving {
		m.mu.Unlock()
		return nil // of several writers one removes
	}
	dev.leaving = true
	m.root.dir("sys/bus/mdev/devices").remove(dev.id)
	m.root.dir(dev.parent.dir + "/mdev_supported_types/" + fullName(dev.driver, dev.typ) + "/devices").remove(dev.id)
	m.root.dir(path.Join(dev.parent.dir, dev.id)).remove("remove")
	var wait chan struct{}
	if dev.holder != 0 {
		wait = make(chan struct{})
		dev.free = wait
	}
	m.mu.Unlock()
	if wait != nil {
		<-wait
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(dev)
	dev.parent.left += dev.typ.units()
	delete(m.devices, dev.id)
	return nil
}

// isUUID is uuid_is_valid() of lib/uuid.c: 8-4-4-4-12, in either case.
func isUUID(text string) bool {
	for i, c := range []byte(text) {
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (c == '-') || !dash && !hex {
			return false
		}
	}
	return true
}

// UUID is one that follows from a name and a number.
func UUID(name string, n int) string {
	b := []byte(idOf(name, strconv.Itoa(n))[:32])
	b[12], b[16] = '4', "89ab"[b[16]&3]
	return fmt.Sprintf("%s-%s-%s-%s-%s", b[:8], b[8:12], b[12:16], b[16:20], b[20:])
}
