// SPDX-License-Identifier: Apache-2.0

package hosts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"kindred/agent"
	"kindred/definition"
	"kindred/host"
	"kindred/host/change"
	"kindred/host/policy"
	"kindred/host/record"
	"kindred/host/tree"
	"kindred/host/vfio"
	"kindred/inventory"
	"kindred/sim"
)

// Host is a simulated host with files of its own.
type Host struct {
	Name string
	// Step is called before each write to the machine, if it is set: a test stops
	// an agent there.
	Step func()

	machine *sim.Machine
	dir     string
	files   tree.Dir
	devices *change.Host
	changed chan struct{}

	definitions *definition.Store

	mu      sync.Mutex
	proving map[string]int // orders whose canaries somebody looks after
}

var _ agent.Proving = (*Host)(nil)

// New makes a host of a machine. Its files are below dir, which has to be its
// own, and may have those of an earlier life.
func New(name string, m *sim.Machine, dir string) (*Host, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("simulate the host %s: %w", name, err)
	}
	files, err := tree.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("simulate the host %s: %w", name, err)
	}
	records, err := record.OpenStore(dir)
	if err != nil {
		files.Close()
		return nil, fmt.Errorf("simulate the host %s: %w", name, err)
	}
	definitions, err := definition.Open(dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("simulate the host %s: %w", name, err), files.Close(), records.Close())
	}
	h := &Host{Name: name, machine: m, dir: dir, files: files, changed: make(chan struct{}, 1), definitions: definitions, proving: make(map[string]int)}
	h.devices = &change.Host{Machine: &system{m, h}, Records: records}
	return h, nil
}

// Build makes a host of one build of the simulated driver (see [sim.Build]),
// with parents sim0, sim1 and on, of 16 units each: an instance takes 4.
func Build(name, build string, parents int, dir string) (*Host, error) {
	d, err := sim.Build(build)
	if err != nil {
		return nil, err
	}
	setup := sim.Setup{Name: name}
	for n := range parents {
		setup.Parents = append(setup.Parents, sim.Parent{Name: fmt.Sprintf("sim%d", n), Driver: d})
	}
	m, err := sim.New(setup)
	if err != nil {
		return nil, err
	}
	return New(name, m, dir)
}

// Agent makes the host's agent, which manages it.
func (h *Host) Agent(fleet agent.Fleet) (*agent.Agent, error) {
	journal, err := h.Journal()
	if err != nil {
		return nil, err
	}
	return &agent.Agent{Name: h.Name, Version: "simulated", Machine: h, Fleet: fleet, Journal: journal}, nil
}

// Allow writes the host's policy file, as its operator would.
func (h *Host) Allow(text string) error {
	file := filepath.Join(h.dir, policy.File)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("write the policy of %s: %w", h.Name, err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write the policy of %s: %w", h.Name, err)
	}
	return nil
}

// AllowAll is a policy that lets everything be managed and proved.
const AllowAll = "manage: [{parent: \"*\"}]\ncanaries: [{parent: \"*\"}]\n"

// Close lets go of the host's files. The machine stays as it is.
func (h *Host) Close() error {
	return errors.Join(h.files.Close(), h.devices.Records.Close(), h.definitions.Close())
}

// Journal opens the journal of the host's agent.
func (h *Host) Journal() (*agent.Journal, error) {
	return agent.OpenJournal(filepath.Join(h.dir, "var/lib/kindred/agent.json"))
}

func (h *Host) Inventory(ctx context.Context) (*inventory.Inventory, error) {
	return host.Simulated(&system{h.machine, h}).Inventory(ctx, host.Options{})
}

func (h *Host) Changed() <-chan struct{} { return h.changed }

func (h *Host) Policy() (*policy.Policy, error) { return policy.Read(h.files) }

func (h *Host) Start(ctx context.Context, req change.Request) (change.Device, error) {
	defer h.kick()
	return h.devices.Start(ctx, req)
}

func (h *Host) Stop(ctx context.Context, id string) error {
	defer h.kick()
	return h.devices.Stop(ctx, id, change.StopOptions{})
}

// Define and Undefine keep devices that should exist, in files of the host.
func (h *Host) Define(ctx context.Context, d *definition.Definition) error {
	h.step()
	return h.definitions.Define(ctx, d)
}

func (h *Host) Undefine(ctx context.Context, parent, id string) error {
	h.step()
	return h.definitions.Undefine(ctx, parent, id)
}

// Definitions are those of the host's devices.
func (h *Host) Definitions() []definition.Definition {
	return h.definitions.Read(definition.Filter{}, func(string, error) {})
}

func (h *Host) Repair(ctx context.Context) error {
	defer h.kick()
	list, err := h.devices.Repair(ctx, false)
	for _, r := range list {
		err = errors.Join(err, r.Err)
	}
	return err
}

// Open opens a device, as a VM manager does.
func (h *Host) Open(id string) (vfio.Device, error) {
	d, err := h.machine.Open(id)
	if err != nil {
		return nil, err
	}
	h.kick()
	return &opened{d, h}, nil
}

// kick says that something changed, as a uevent does.
func (h *Host) kick() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// opened tells the agent when it is closed.
type opened struct {
	vfio.Device
	host *Host
}

func (o *opened) Close() error {
	defer o.host.kick()
	return o.Device.Close()
}

// system is the machine with the host's files in it.
type system struct {
	*sim.Machine
	host *Host
}

func (s *system) ReadFile(name string) ([]byte, error) {
	if strings.HasPrefix(name, record.Dir+"/") || name == policy.File {
		return s.host.files.ReadFile(name)
	}
	return s.Machine.ReadFile(name)
}

func (s *system) WriteAttr(name, text string) error {
	s.host.step()
	return s.Machine.WriteAttr(name, text)
}

func (s *system) WriteApart(ctx context.Context, name, text string) error {
	s.host.step()
	return s.Machine.WriteApart(ctx, name, text)
}

func (h *Host) step() {
	if h.Step != nil {
		h.Step()
	}
}
