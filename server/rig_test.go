// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"kindred/api"
	"kindred/compat"
	"kindred/compat/proofs"
	"kindred/inventory"
	"kindred/server/store"
)

// etcd is one store for all tests of the package; each has its own prefix.
var etcd struct {
	endpoint string
	tests    int
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "kindred-server-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		cfg := embed.NewConfig()
		any := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
		cfg.Dir, cfg.LogOutputs, cfg.UnsafeNoFsync = dir, []string{"/dev/null"}, true
		cfg.ListenPeerUrls, cfg.ListenClientUrls, cfg.AdvertiseClientUrls = nil, []url.URL{any}, []url.URL{any}
		e, err := embed.StartEtcd(cfg)
		if err != nil {
			panic(err)
		}
		defer e.Close()
		<-e.Server.ReadyNotify()
		etcd.endpoint = "http://" + e.Clients[0].Addr().String()
		return m.Run()
	}())
}

const testCatalog = `schema: kindred.catalog/v1
namespaces: [ns]
migration:
  - {can: "yes", source: test}
build:
  modules: [m]
rules:
  - {attribute: a, rule: at-least, source: test}
capacity:
  model: pools
  source: test
  pools:
    - name: units
      takes:
        - {types: small, units: 1}
        - {types: large, units: 2}
`

func testCatalogs(t testing.TB) *compat.Catalogs {
	t.Helper()
	c, err := compat.ParseCatalog("test", []byte(testCatalog))
	if err != nil {
		t.Fatal(err)
	}
	cs, err := compat.NewCatalogs(nil, []*compat.Catalog{c})
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

// rig is a fleet in a test: a store, a clock, machines, and the servers that
// the test starts and stops.
type rig struct {
	t        testing.TB
	prefix   string
	catalogs *compat.Catalogs
	keys     []proofs.NamedKey
	machines map[string]*machine

	mu  sync.Mutex
	now time.Time
}

func newRig(t testing.TB, machines ...*machine) *rig {
	etcd.tests++
	r := &rig{t: t, prefix: fmt.Sprintf("/test%d", etcd.tests), catalogs: testCatalogs(t), machines: make(map[string]*machine), now: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)}
	for _, m := range machines {
		r.machines[m.name] = m
	}
	return r
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

// open opens the rig's store.
func (r *rig) open() *store.Store {
	r.t.Helper()
	s, err := store.Existing{Endpoints: []string{etcd.endpoint}, Prefix: r.prefix}.Open(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { s.Close() })
	return s
}

// running is one server that runs.
type running struct {
	*Server
	stop func()
}

// start starts a server on a store.
func (r *rig) start(s Store) *running {
	r.t.Helper()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(r.t.Output(), nil))
	}
	server := New(Config{Store: s, Catalogs: r.catalogs, ProofKeys: func() ([]proofs.NamedKey, error) { return r.keys, nil }, Now: r.clock, Sweep: -1, Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Run(ctx, func() { close(ready) }); !errors.Is(err, context.Canceled) {
			r.t.Errorf("the server ended: %v", err)
		}
	}()
	select {
	case <-ready:
	case <-time.After(time.Minute):
		cancel()
		r.t.Fatal("the server did not get ready")
	}
	one := &running{server, sync.OnceFunc(func() { cancel(); <-ended })}
	r.t.Cleanup(one.stop)
	return one
}

// report lets machines report that have news.
func (r *rig) report(s *running, names ...string) {
	r.t.Helper()
	for _, name := range names {
		if err := r.machines[name].report(r.t.Context(), s.Server); err != nil {
			r.t.Fatal(err)
		}
	}
}

// machine is a host with its agent, as far as a server can tell.
type machine struct {
	name    string
	units   int // of the one parent, p; shared by all types
	types   []string
	mode    api.Mode
	fails   string // why nothing can be made
	devices []*made
	build   string           // of its driver; empty: b1
	ends    map[string]begun // of canary orders; nil: the agent has just started
}

// made is a device on a machine.
type made struct {
	id, typ string
	open    bool   // a process has it
	canary  string // the order that it was made for
	claim   string // the migration that it was made for; empty: the host's own
}

var sizes = map[string]int{"small": 1, "large": 2}

func newMachine(name string, units int, devices ...*made) *machine {
	return &machine{name: name, units: units, types: []string{"large", "small"}, mode: api.Manage, devices: devices}
}

func (m *machine) device(id string) *made {
	i := slices.IndexFunc(m.devices, func(d *made) bool { return d.id == id })
	if i < 0 {
		return nil
	}
	return m.devices[i]
}

func (m *machine) left() int {
	n := m.units
	for _, d := range m.devices {
		n -= sizes[d.typ]
	}
	return n
}

func (m *machine) inventory() *inventory.Inventory {
	inv := &inventory.Inventory{
		Schema: inventory.Schema, Origin: inventory.FromSimulator, Taken: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC),
		Host:    inventory.Host{Name: m.name, QEMU: inventory.Of("9.0"), Libvirt: inventory.Of("10.0")},
		Modules: []inventory.Module{{Name: "m", BuildID: inventory.Of("b1")}},
		Parents: []inventory.Parent{{Name: "p", Kind: inventory.MdevParent, Namespace: "ns"}},
	}
	for _, name := range m.types {
		t := inventory.Type{
			TypeName: inventory.TypeName{Namespace: "ns", Name: name}, DeviceAPI: inventory.Of("vfio-pci"), Label: inventory.Of(name),
			Creatable: inventory.Yes, ListedBy: inventory.ListedByKernel, Attributes: inventory.Attributes{Complete: true}, Available: new(m.left() / sizes[name]),
		}
		if *t.Available == 0 {
			t.Creatable = inventory.No
		}
		t.Attributes.Set("a", "1")
		inv.Parents[0].Types = append(inv.Parents[0].Types, t)
	}
	for _, d := range m.devices {
		use := inventory.No
		if d.open {
			use = inventory.Yes
		}
		inv.Devices = append(inv.Devices, inventory.Device{
			ID: d.id, Kind: inventory.Mdev, Parent: "p", Type: inventory.TypeName{Namespace: "ns", Name: d.typ}, InUse: use,
			Attributes: inventory.Attributes{Complete: true}, Canary: d.canary,
		})
	}
	inv.Sort()
	return inv
}

func (m *machine) report(ctx context.Context, s *Server) error {
	static, own := inventory.Split(m.inventory())
	digest, err := static.Digest()
	if err != nil {
		return err
	}
	own.Static = digest
	version := fmt.Sprintf("%x", encode(own))
	if _, err := s.Alive(ctx, m.name, &api.Alive{Version: version}); !errors.Is(err, &api.Problem{Code: api.NeedReport}) {
		return err
	}
	for {
		_, err := s.Report(ctx, m.name, &api.Report{Own: own, Version: version, Agent: "test", Mode: m.mode})
		if !errors.Is(err, &api.Problem{Code: api.NeedStatic}) {
			return err
		}
		if err := s.Static(ctx, digest, static); err != nil {
			return err
		}
	}
}

// work does what the machine is assigned, as an agent does, reports, and says
// what became of it.
func (m *machine) work(ctx context.Context, s *Server) error {
	list, _ := s.Assignments(m.name)
	var r api.StatusReport
	for _, a := range list.Assignments {
		st := api.Status{Migration: a.Migration, Step: a.Step, Source: a.Spec.Source, Device: a.Device}
		st.State, st.Detail = m.carry(&a)
		r.Statuses = append(r.Statuses, st)
	}
	if err := m.report(ctx, s); err != nil {
		return err
	}
	if len(r.Statuses) == 0 {
		return nil
	}
	return s.Status(ctx, m.name, r)
}

func (m *machine) carry(a *api.Assignment) (api.DeviceState, string) {
	d := m.device(a.Device)
	state := api.Made
	if d != nil && d.open {
		state = api.Busy
	}
	switch a.Do {
	case api.Make:
		if d == nil {
			if m.fails != "" {
				return api.Failed, m.fails
			}
			if m.left() < sizes[a.Spec.Type.Name] {
				return api.Failed, "no room"
			}
			m.devices = append(m.devices, &made{id: a.Device, typ: a.Spec.Type.Name, claim: a.Migration})
		}
		return state, ""
	case api.Keep:
		if d == nil {
			return api.Gone, ""
		}
		d.claim = ""
		return api.Kept, ""
	case api.Hold:
		if d == nil {
			return api.Gone, ""
		}
		return state, ""
	case api.Release:
		if d != nil && d.open {
			return api.Busy, ""
		}
		m.devices = slices.DeleteFunc(m.devices, func(o *made) bool { return o == d })
		return api.Gone, ""
	}
	return api.Stuck, "unknown action " + string(a.Do)
}

// reportBuild reports a machine with another build of its driver.
func reportBuild(s *running, m *machine, build string) error {
	inv := m.inventory()
	inv.Modules[0].BuildID = inventory.Of(build)
	return reportOf(s, inv, build)
}

// reportOf reports an inventory, of which nothing was reported before.
func reportOf(s *running, inv *inventory.Inventory, version string) error {
	static, own := inventory.Split(inv)
	digest, err := static.Digest()
	if err != nil {
		return err
	}
	own.Static = digest
	if err := s.Static(context.Background(), digest, static); err != nil {
		return err
	}
	_, err = s.Report(context.Background(), inv.Host.Name, &api.Report{Own: own, Version: version, Mode: api.Manage})
	return err
}
