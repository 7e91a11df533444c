// SPDX-License-Identifier: Apache-2.0

package hosts_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kindred/agent"
	"kindred/api"
	"kindred/client"
	"kindred/compat"
	"kindred/fleet"
	"kindred/host/change"
	"kindred/inventory"
	"kindred/server"
	"kindred/server/store"
	"kindred/sim"
	"kindred/sim/hosts"
	"kindred/trust"
)

// site is a whole fleet in this process: a server with its etcd, and hosts with
// agents, which speak HTTP with it.
type site struct {
	t      *testing.T
	log    *slog.Logger
	client *client.Client
	hosts  map[string]*hosts.Host
	vms    *hosts.Manager
	agents map[string]*running

	server *server.Server                    // the one that runs now
	serve  func()                            // stops it as a killed one, and starts another
	equip  func(host string, a *agent.Agent) // what agents have besides
}

// running is a host's agent.
type running struct {
	*hosts.Mortal
	stop func()
}

// run runs a host's agent, to be killed at a step; 0: never.
func (s *site) run(host string, killAt int) {
	s.t.Helper()
	h := s.hosts[host]
	ctx, cancel := context.WithCancel(context.Background())
	m := &hosts.Mortal{Fleet: s.client, KillAt: killAt, Kill: cancel}
	a, err := h.Agent(m)
	if err != nil {
		s.t.Fatal(err)
	}
	a.Poll, a.Retry, a.Coalesce, a.Log = time.Second, 50*time.Millisecond, 20*time.Millisecond, s.log
	if s.equip != nil {
		s.equip(host, a)
	}
	h.Step = m.Step
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Run(ctx); err != nil {
			s.t.Error(err)
		}
	}()
	s.agents[host] = &running{m, func() { cancel(); <-done }}
}

// again starts an agent again after it was killed, or stops and starts it.
func (s *site) again(host string, killAt int) {
	s.t.Helper()
	s.agents[host].stop()
	s.run(host, killAt)
}

// newSite has a host of each of the builds, of the build's name, or of another
// one: BUILD:NAME.
func newSite(t *testing.T, builds ...string) *site {
	t.Helper()
	return newSiteWith(t, time.Minute, builds...)
}

// newSiteWith has hosts that are taken for silent after some time. Where none is to
// be, that is more than a busy machine holds one up.
func newSiteWith(t *testing.T, silent time.Duration, builds ...string) *site {
	t.Helper()
	catalog, err := compat.ParseCatalog("ksim.yaml", sim.Catalog)
	if err != nil {
		t.Fatal(err)
	}
	catalogs, err := compat.NewCatalogs(nil, []*compat.Catalog{catalog})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := store.Embedded{Dir: t.TempDir()}.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	seal, err := trust.ParseSealKey(trust.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	one := &site{t: t, log: log, hosts: make(map[string]*hosts.Host), agents: make(map[string]*running)}
	ctx, cancel := context.WithCancel(context.Background())
	var handler atomic.Pointer[http.Handler]
	var serving sync.WaitGroup
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*handler.Load()).ServeHTTP(w, r) }))
	stop := func() {}
	one.serve = func() {
		stop()
		serving.Wait()
		s := server.New(server.Config{
			Store: kept, Catalogs: catalogs, Log: log, SealKey: seal, Interval: time.Second, Timeout: silent, Sweep: 50 * time.Millisecond,
			DrainPatience: 2 * time.Second,
		})
		var running context.Context
		running, stop = context.WithCancel(ctx)
		ready := make(chan struct{})
		serving.Go(func() { _ = s.Run(running, func() { close(ready) }) })
		<-ready
		one.server = s
		handler.Store(new(s.Handler()))
		web.CloseClientConnections()
	}
	one.serve()
	web.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return server.WithIdentity(ctx, server.Identity{Name: "test", Admin: true})
	}
	web.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	web.Start()
	c, err := client.New([]string{web.URL}, nil)
	if err != nil {
		t.Fatal(err)
	}
	one.client = c
	var list []*hosts.Host
	for _, build := range builds {
		build, name, named := strings.Cut(build, ":")
		if !named {
			name = build
		}
		h, err := hosts.Build(name, build, 2, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Allow(hosts.AllowAll); err != nil {
			t.Fatal(err)
		}
		list = append(list, h)
		one.hosts[name] = h
		one.run(name, 0)
	}
	one.vms = hosts.NewManager(list...)
	t.Cleanup(func() {
		for _, a := range one.agents {
			a.stop()
		}
		cancel()
		serving.Wait()
		c.Close()
		web.Close()
		if err := kept.Close(); err != nil {
			t.Error(err)
		}
		for _, h := range list {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return one
}

// guest starts a guest with new devices on a host, and waits until the server
// knows of them.
func (s *site) guest(vm, host string, n int) []string {
	s.t.Helper()
	var ids []string
	for i := range n {
		dev, err := s.hosts[host].Start(s.t.Context(), change.Request{
			Kind: inventory.Mdev, ID: sim.UUID(vm, i), Parent: fmt.Sprint("sim", i%2), Type: "ksim-V4",
			Attributes: []change.Attribute{{Name: "weight", Value: "5"}},
		})
		if err != nil {
			s.t.Fatal(err)
		}
		ids = append(ids, dev.ID)
	}
	if err := s.vms.Run(vm, host, ids...); err != nil {
		s.t.Fatal(err)
	}
	for _, id := range ids {
		s.until("the server knows all of "+id, func() bool { // not only that it was being made
			h, err := s.client.Host(s.t.Context(), host)
			if err != nil {
				return false
			}
			d := h.Inventory.Device(id)
			return d != nil && d.Contract != nil && d.InUse == inventory.Yes
		})
	}
	return ids
}

func (s *site) until(what string, done func() bool) {
	s.t.Helper()
	for range 2400 {
		if done() {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	s.t.Fatal("this did not come in a minute: " + what)
}

// devices are all devices of a host, by the machine itself.
func (s *site) devices(host string) []string {
	s.t.Helper()
	inv, err := s.hosts[host].Inventory(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	var ids []string
	for _, d := range inv.Devices {
		ids = append(ids, d.ID)
	}
	return ids
}

// reported waits until all hosts are known.
func (s *site) reported() {
	s.t.Helper()
	s.until("all hosts report", func() bool {
		list, err := s.client.Hosts(s.t.Context())
		return err == nil && len(list) == len(s.hosts)
	})
}

func (s *site) over(id string) *api.Migration {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	m, err := hosts.Await(ctx, s.client, id, api.MigrationState.Over)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// TestMigration is the whole path: hosts report, the question is answered, a
// target is claimed and prepared, the state moves, and the source is removed.
func TestMigration(t *testing.T) {
	s := newSite(t, "gen8", "gen9", "rel20", "poor")
	s.reported()
	ids := s.guest("vm1", "gen8", 2)
	answer, err := s.client.Targets(t.Context(), &api.TargetsRequest{Device: ids[0]})
	if err != nil {
		t.Fatal(err)
	}
	groups := make(map[string]fleet.Group)
	for _, h := range answer.Hosts {
		groups[h.Host] = h.Group
	}
	if groups["gen9"] != fleet.Ready || groups["rel20"] != fleet.NotAllowed || groups["poor"] != fleet.NotAllowed || !answer.Simulated {
		t.Fatalf("targets are %v", groups)
	}

	mig, err := s.client.CreateMigration(t.Context(), "", &api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: ids, Target: "gen9", Owner: "vm1"}})
	if err != nil {
		t.Fatal(err)
	}
	handed, moved, err := s.vms.Carry(t.Context(), s.client, mig.ID)
	if err != nil {
		t.Fatal(err)
	}
	if last := s.over(mig.ID); last.State != api.Completed || last.Host != "gen9" {
		t.Fatalf("%+v", last)
	}
	on, there, err := s.vms.On("vm1")
	if err != nil || on != "gen9" || moved.Bytes < 2<<20 {
		t.Errorf("the guest is on %s, %v, after %d bytes", on, err, moved.Bytes)
	}
	if left := s.devices("gen8"); len(left) != 0 {
		t.Errorf("left on the source: %q", left)
	}
	if got := s.devices("gen9"); !slices.Equal(slices.Sorted(slices.Values(got)), there) || len(got) != len(handed.Devices) {
		t.Errorf("on the target: %q, the guest has %q", got, there)
	}
	inv, err := s.hosts["gen9"].Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range inv.Devices {
		if d.Contract == nil || d.Contract.Host != "gen8" || d.Attributes.Values["weight"] != inventory.Of("5") || d.Type.Name != "V4" {
			t.Errorf("%+v with the contract %+v", d, d.Contract)
		}
	}
	if err := s.vms.Work("vm1"); err != nil {
		t.Errorf("the guest works on: %v", err)
	}

	if d := s.hosts["gen9"].Definitions(); len(d) != 2 || d[0].Type != "ksim-V4" || d[0].Auto || !slices.Contains(there, d[0].UUID) {
		t.Errorf("the target's definitions are %+v", d)
	}

	// And back, as a guest that moved already.
	back, err := s.client.CreateMigration(t.Context(), "", &api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: there, Target: "gen8", Owner: "vm1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.vms.Carry(t.Context(), s.client, back.ID); err != nil {
		t.Fatal(err)
	}
	if last := s.over(back.ID); last.State != api.Completed || len(s.devices("gen9")) != 0 || len(s.devices("gen8")) != 2 {
		t.Errorf("%s; gen8 has %q, gen9 %q", last.State, s.devices("gen8"), s.devices("gen9"))
	}
	if here, left := s.hosts["gen8"].Definitions(), s.hosts["gen9"].Definitions(); len(here) != 2 || len(left) != 0 {
		t.Errorf("gen8 has %d definitions, and %d are left on gen9", len(here), len(left))
	}
}

// TestMigrationRefused: what cannot go is refused before anything is made.
func TestMigrationRefused(t *testing.T) {
	s := newSite(t, "gen8", "rel20", "gen9")
	s.reported()
	ids := s.guest("vm1", "gen8", 1)
	_, err := s.client.CreateMigration(t.Context(), "", &api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: ids, Target: "rel20", Owner: "vm1"}})
	if !errors.Is(err, &api.Problem{Code: api.NotCompatible}) {
		t.Errorf("rel20: %v", err)
	}
	// A host whose operator allows nothing: the target cannot be prepared.
	if err := s.hosts["gen9"].Allow("manage: []\n"); err != nil {
		t.Fatal(err)
	}
	mig, err := s.client.CreateMigration(t.Context(), "", &api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: ids, Target: "gen9", Owner: "vm1"}})
	if err != nil {
		t.Fatal(err)
	}
	if last := s.over(mig.ID); last.State != api.Aborted || last.Code != api.DeviceFailed || !strings.Contains(last.Reason, "operator") {
		t.Errorf("%+v", last)
	}
	if on, _, err := s.vms.On("vm1"); err != nil || on != "gen8" || len(s.devices("gen9")) != 0 {
		t.Errorf("the guest is on %s; gen9 has %q", on, s.devices("gen9"))
	}
}

// TestMigrationAborted: half way, prepared or handed over, everything is as it
// was before.
func TestMigrationAborted(t *testing.T) {
	s := newSite(t, "gen8", "gen9", "forgets")
	s.reported()
	ids := s.guest("vm1", "gen8", 2)
	before, err := s.vms.Sees("vm1")
	if err != nil {
		t.Fatal(err)
	}
	asBefore := func(what string) {
		t.Helper()
		now, err := s.vms.Sees("vm1")
		if err != nil || !slices.Equal(before, now) {
			t.Errorf("%s: the guest sees %q, before %q, %v", what, now, before, err)
		}
		if got := s.devices("gen8"); len(got) != 2 || len(s.devices("gen9")) != 0 {
			t.Errorf("%s: gen8 has %q, gen9 %q", what, got, s.devices("gen9"))
		}
		s.until(what+": room is given back", func() bool {
			list, err := s.client.Claims(t.Context(), false)
			return err == nil && len(list) == 0
		})
	}
	for _, handOver := range []bool{false, true} {
		mig, err := s.client.CreateMigration(t.Context(), "", &api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: ids, Target: "gen9", Owner: "vm1"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := hosts.Await(t.Context(), s.client, mig.ID, func(st api.MigrationState) bool { return st == api.Prepared }); err != nil {
			t.Fatal(err)
		}
		if len(s.devices("gen9")) != 2 {
			t.Errorf("prepared, and gen9 has %q", s.devices("gen9"))
		}
		if handOver {
			if _, err := s.client.HandOver(t.Context(), mig.ID); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.client.Abort(t.Context(), mig.ID, &api.Abort{Reason: "changed my mind"}); err != nil {
			t.Fatal(err)
		}
		if last := s.over(mig.ID); last.State != api.Aborted || last.Host != "gen8" {
			t.Errorf("%+v", last)
		}
		asBefore(fmt.Sprintf("aborted, handed over: %t", handOver))
	}
}

// TestManyHosts runs hundreds of agents in this process, which all report within
// seconds, and moves a guest between two of them while the others go on.
func TestManyHosts(t *testing.T) {
	if testing.Short() {
		t.Skip("it is many hosts")
	}
	builds := []string{"gen8", "gen9", "rel20"}
	var names []string
	for n := range 300 {
		names = append(names, fmt.Sprintf("%s:%s-%03d", builds[n%3], builds[n%3], n))
	}
	begun := time.Now()
	s := newSite(t, names...)
	s.reported()
	t.Logf("%d hosts are known after %v", len(names), time.Since(begun).Round(time.Millisecond))
	ids := s.guest("vm1", "gen8-000", 2)
	s.until("every host is in its group", func() bool {
		answer, err := s.client.Targets(t.Context(), &api.TargetsRequest{Device: ids[0], Limit: -1})
		return err == nil && answer.Counts[fleet.Ready] == 199 && answer.Counts[fleet.NotAllowed] == 100
	})
	mig, err := s.client.CreateMigration(t.Context(), "", &api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: ids, Target: "gen9-001", Owner: "vm1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.vms.Carry(t.Context(), s.client, mig.ID); err != nil {
		t.Fatal(err)
	}
	if last := s.over(mig.ID); last.State != api.Completed || len(s.devices("gen9-001")) != 2 || len(s.devices("gen8-000")) != 0 {
		t.Errorf("%+v", last)
	}
}
