// SPDX-License-Identifier: Apache-2.0

package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"kindred/host/vfio"
	"kindred/sim"
)

// Manager runs guests on hosts and moves them. It is safe for concurrent use;
// one guest is moved by one caller at a time.
type Manager struct {
	mu     sync.Mutex
	hosts  map[string]*Host
	guests map[string]*guest
}

// guest is a virtual machine with the devices that it has open.
type guest struct {
	host    string
	devices map[string]vfio.Device // by id on the host
	worked  uint64                 // seeds so far
}

// NewManager makes a manager of some hosts.
func NewManager(list ...*Host) *Manager {
	m := &Manager{hosts: make(map[string]*Host), guests: make(map[string]*guest)}
	for _, h := range list {
		m.hosts[h.Name] = h
	}
	return m
}

// Run starts a guest with some of a host's devices, and lets it work.
func (m *Manager) Run(name, host string, ids ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.hosts[host]
	if h == nil || m.guests[name] != nil {
		return fmt.Errorf("run %s on %s: there is no such host, or the guest runs", name, host)
	}
	g := &guest{host: host, devices: make(map[string]vfio.Device)}
	for _, id := range ids {
		d, err := h.Open(id)
		if err != nil {
			return errors.Join(fmt.Errorf("run %s on %s: %w", name, host, err), closeAll(g.devices))
		}
		g.devices[id] = d
	}
	m.guests[name] = g
	return g.work()
}

const words = 64 // of work at a time

func (g *guest) work() error {
	g.worked++
	for id, d := range g.devices {
		if err := sim.Work(d, g.worked, words); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
	}
	return nil
}

func closeAll(devices map[string]vfio.Device) (err error) {
	for _, d := range devices {
		err = errors.Join(err, d.Close())
	}
	return err
}

// Work lets a guest work.
func (m *Manager) Work(name string) error {
	g, err := m.guest(name)
	if err != nil {
		return err
	}
	return g.work()
}

func (m *Manager) guest(name string) (*guest, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.guests[name]; g != nil {
		return g, nil
	}
	return nil, fmt.Errorf("no guest %s runs", name)
}

// On is the host that the guest runs on, and its devices there.
func (m *Manager) On(name string) (host string, ids []string, err error) {
	g, err := m.guest(name)
	if err != nil {
		return "", nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return g.host, slices.Sorted(maps.Keys(g.devices)), nil
}

// Sees is a digest of what the guest sees of its devices, whatever their names.
func (m *Manager) Sees(name string) ([]string, error) {
	g, err := m.guest(name)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, d := range g.devices {
		seen, err := sim.Seen(d)
		if err != nil {
			return nil, err
		}
		list = append(list, seen)
	}
	slices.Sort(list)
	return list, nil
}

// Stop ends a guest.
func (m *Manager) Stop(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.guests[name]
	if g == nil {
		return nil
	}
	delete(m.guests, name)
	return closeAll(g.devices)
}

// ErrNoticed is returned when a guest would have seen that it was moved.
var ErrNoticed = errors.New("the state was taken, and the guest would see another device")

// Moved is what came of a move.
type Moved struct {
	Bytes int64 // of state, of all devices
}

// Move moves a guest to another host, where its devices have other names. What
// the guest sees there is held against what it saw. When it returns an error,
// the guest runs on where it was, and its target devices are closed.
func (m *Manager) Move(ctx context.Context, name, to string, names map[string]string) (Moved, error) {
	var moved Moved
	g, err := m.guest(name)
	if err != nil {
		return moved, err
	}
	m.mu.Lock()
	target := m.hosts[to]
	m.mu.Unlock()
	if target == nil {
		return moved, fmt.Errorf("move %s: there is no host %s", name, to)
	}
	arrived := make(map[string]vfio.Device)
	for _, source := range slices.Sorted(maps.Keys(g.devices)) {
		var n int64
		d, err := target.Open(names[source])
		if err == nil {
			arrived[names[source]] = d
			n, err = transfer(ctx, g.devices[source], d)
		}
		if err != nil {
			return moved, errors.Join(fmt.Errorf("move %s to %s: %s: %w", name, to, source, err), closeAll(arrived), g.resume())
		}
		moved.Bytes += n
	}
	// From here on the guest runs there.
	left := g.devices
	m.mu.Lock()
	g.host, g.devices = to, arrived
	m.mu.Unlock()
	return moved, errors.Join(closeAll(left), g.work())
}

// resume lets devices that were stopped run on: they have their state.
func (g *guest) resume() (err error) {
	for id, d := range g.devices {
		if _, e := d.SetState(vfio.StateRunning); e != nil {
			err = errors.Join(err, fmt.Errorf("%s does not run on: %w", id, e))
		}
	}
	return err
}

// transfer moves one device's state and makes the target run.
func transfer(ctx context.Context, from, to vfio.Device) (int64, error) {
	r, w := io.Pipe()
	saved := make(chan error, 1)
	go func() {
		_, err := vfio.Save(ctx, from, w, vfio.SaveOptions{})
		w.CloseWithError(err) // nil is the end of the stream
		saved <- err
	}()
	loaded, err := vfio.Load(ctx, to, r, vfio.LoadOptions{})
	r.CloseWithError(err)
	if saveErr := <-saved; err == nil {
		err = saveErr
	}
	if err != nil {
		return 0, err
	}
	before, err := sim.Seen(from)
	if err != nil {
		return 0, err
	}
	after, err := sim.Seen(to)
	if err != nil {
		return 0, err
	}
	if before != after {
		return 0, ErrNoticed
	}
	_, err = to.SetState(vfio.StateRunning)
	return loaded.Bytes, err
}
