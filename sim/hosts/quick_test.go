// SPDX-License-Identifier: Apache-2.0

package hosts_test

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kindred/api"
	"kindred/client"
	"kindred/compat"
	"kindred/host/change"
	"kindred/inventory"
	"kindred/server"
	"kindred/server/store"
	"kindred/server/store/memory"
	"kindred/sim"
	"kindred/sim/hosts"
)

// quick is a fleet on a clock that does not wait ([testing/synctest]): a store in
// memory, a server, and agents and a VM manager with cables to it, all with the
// times that they have in earnest.
type quick struct {
	t      *testing.T
	net    *cables
	kept   *memory.Store
	pool   *x509.CertPool
	cert   tls.Certificate
	hosts  map[string]*hosts.Host
	cables map[string]*cable // by host, and "manager"
	vms    *hosts.Manager
	client *client.Client // the VM manager's

	mu     sync.Mutex
	ended  bool
	server *serving
	agents map[string]*agentRun
}

// serves is the server that runs, or ran last.
func (q *quick) serves() *server.Server {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.server.Server
}

// serving is a server that runs until it is told to stop, or dies.
type serving struct {
	*server.Server
	*mortalStore
	stop func()
}

// agentRun is an agent that runs.
type agentRun struct {
	*hosts.Mortal
	stop func()
}

// Times of the server, and of the claims in these tests.
const (
	hearEvery   = 10 * time.Second
	silentAfter = 35 * time.Second
	claimFor    = 3 * time.Minute
)

// warm runs such a fleet for a moment on the machine's own clock: what is made at
// its first use and shared from then on, as a compressor is, must not be of the
// clock of one test.
func warm(t *testing.T) {
	t.Helper()
	q := newQuick(t, "host:gen8")
	defer q.end()
	for range 2 {
		q.until("the host is known", func() bool { _, err := q.serves().Host("host"); return err == nil })
		q.server.stop()
		q.serve() // which reads what the other one wrote
	}
}

// newQuick has hosts NAME:BUILD, each with an agent.
func newQuick(t *testing.T, names ...string) *quick {
	t.Helper()
	q := &quick{
		t: t, net: new(cables), kept: new(memory.Store), hosts: make(map[string]*hosts.Host), cables: make(map[string]*cable), agents: make(map[string]*agentRun),
	}
	q.certify()
	q.serve()
	var list []*hosts.Host
	for _, one := range names {
		name, build, _ := strings.Cut(one, ":")
		h, err := hosts.Build(name, build, 2, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Allow(hosts.AllowAll); err != nil {
			t.Fatal(err)
		}
		list = append(list, h)
		q.hosts[name], q.cables[name] = h, newCable(q.net)
		q.run(name, 0)
	}
	q.vms = hosts.NewManager(list...)
	q.cables["manager"] = newCable(q.net)
	q.client = q.ask("manager")
	return q
}

// end stops everything, so that nothing of it is left on the clock.
func (q *quick) end() {
	q.client.Close()
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	for _, a := range q.agents {
		a.stop()
	}
	for _, c := range q.cables {
		c.mend()
		c.sever(reset)
	}
	q.server.stop()
	for _, h := range q.hosts {
		if err := h.Close(); err != nil {
			q.t.Error(err)
		}
	}
}

// ask is a client behind a cable.
func (q *quick) ask(who string) *client.Client {
	c, err := client.New([]string{"https://server"}, &tls.Config{RootCAs: q.pool, ServerName: "server"})
	if err != nil {
		q.t.Fatal(err)
	}
	c.Dial(q.cables[who].dial)
	return c
}

// restart is how long whoever starts what was killed takes.
const restart = 2 * time.Second

// serve starts a server on what is kept. One that dies is started again.
func (q *quick) serve() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return
	}
	m := &mortalStore{Store: q.kept, left: -1, dead: make(chan struct{})}
	s := server.New(server.Config{Store: m, Catalogs: simCatalogs(q.t), Log: slog.New(slog.DiscardHandler), Interval: hearEvery, Timeout: silentAfter})
	ctx, cancel := context.WithCancel(context.Background())
	l := q.net.listen()
	web := &http.Server{
		Handler: s.Handler(), TLSConfig: &tls.Config{Certificates: []tls.Certificate{q.cert}}, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return server.WithIdentity(ctx, server.Identity{Name: "test", Admin: true})
		},
	}
	var all sync.WaitGroup
	all.Go(func() { _ = s.Run(ctx, func() { all.Go(func() { _ = web.ServeTLS(l, "", "") }) }) })
	all.Go(func() {
		select {
		case <-m.dead:
			time.AfterFunc(restart, q.serve)
		case <-ctx.Done():
		}
		cancel()
		l.end()
		web.Close()
	})
	q.server = &serving{s, m, func() { cancel(); all.Wait() }}
}

// certify gives servers a certificate: agents speak TLS with them, and HTTP/2.
func (q *quick) certify() {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		q.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"server"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(nil, c, c, public, private)
	if err != nil {
		q.t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		q.t.Fatal(err)
	}
	q.pool = x509.NewCertPool()
	q.pool.AddCert(c)
	q.cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: c}
}

// mortalStore is a store under a server that dies at one of its transactions.
type mortalStore struct {
	server.Store
	mu    sync.Mutex
	left  int // transactions until it dies; negative: it does not
	after bool
	dead  chan struct{} // closed when it is
}

// dieAt has the server die at a transaction from now on: before or after it is
// done.
func (m *mortalStore) dieAt(k int, after bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left, m.after = k, after
}

func (m *mortalStore) Commit(ctx context.Context, t store.Txn) (int64, bool, error) {
	revision, each, err := m.CommitEach(ctx, []store.Txn{t})
	return revision, err == nil && each[0], err
}

func (m *mortalStore) CommitEach(ctx context.Context, list []store.Txn) (int64, []bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hasDied() {
		return 0, nil, store.ErrUncertain
	}
	if m.left == 0 {
		close(m.dead)
		if m.after {
			_, _, _ = m.Store.CommitEach(ctx, list) // nobody hears what came of it
		}
		return 0, nil, store.ErrUncertain
	}
	m.left--
	return m.Store.CommitEach(ctx, list)
}

func (m *mortalStore) hasDied() bool {
	select {
	case <-m.dead:
		return true
	default:
		return false
	}
}

// run runs a host's agent, to be killed at a step; 0: never. One that was killed
// is started again.
func (q *quick) run(host string, killAt int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return
	}
	if old := q.agents[host]; old != nil {
		old.stop()
	}
	h := q.hosts[host]
	ctx, cancel := context.WithCancel(context.Background())
	fleet := q.ask(host)
	m := &hosts.Mortal{Fleet: fleet, KillAt: killAt, Kill: func() {
		cancel()
		time.AfterFunc(restart, func() { q.run(host, 0) })
	}}
	a, err := h.Agent(m)
	if err != nil {
		q.t.Error(err)
		return
	}
	a.Poll = 10 * time.Second // as kindred agent has it
	h.Step = m.Step
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Run(ctx); err != nil {
			q.t.Error(err)
		}
	}()
	q.agents[host] = &agentRun{m, func() { cancel(); <-done; fleet.Close() }}
}

func simCatalogs(t *testing.T) *compat.Catalogs {
	t.Helper()
	catalog, err := compat.ParseCatalog("ksim.yaml", sim.Catalog)
	if err != nil {
		t.Fatal(err)
	}
	catalogs, err := compat.NewCatalogs(nil, []*compat.Catalog{catalog})
	if err != nil {
		t.Fatal(err)
	}
	return catalogs
}

// guest starts a guest with new devices, and waits until the server knows of them.
func (q *quick) guest(vm, host string, n int) []string {
	q.t.Helper()
	var ids []string
	for i := range n {
		dev, err := q.hosts[host].Start(q.t.Context(), change.Request{Kind: inventory.Mdev, ID: sim.UUID(vm, i), Parent: fmt.Sprint("sim", i%2), Type: "ksim-V4"})
		if err != nil {
			q.t.Fatal(err)
		}
		ids = append(ids, dev.ID)
	}
	if err := q.vms.Run(vm, host, ids...); err != nil {
		q.t.Fatal(err)
	}
	q.until("the server knows of the guest's devices", func() bool {
		for _, h := range q.hosts {
			if _, err := q.serves().Host(h.Name); err != nil {
				return false
			}
		}
		h, err := q.serves().Host(host)
		return err == nil && !slices.ContainsFunc(ids, func(id string) bool {
			d := h.Inventory.Device(id)
			return d == nil || d.Contract == nil || d.InUse != inventory.Yes
		})
	})
	return ids
}

// until looks every second of an hour.
func (q *quick) until(what string, done func() bool) {
	q.t.Helper()
	for range 3600 {
		if done() {
			return
		}
		time.Sleep(time.Second)
	}
	q.t.Fatal("this did not come in an hour: " + what)
}

// devices are all devices of a host, by the machine itself.
func (q *quick) devices(host string) (ids []string) {
	q.t.Helper()
	inv, err := q.hosts[host].Inventory(q.t.Context())
	if err != nil {
		q.t.Fatal(err)
	}
	for _, d := range inv.Devices {
		ids = append(ids, d.ID)
	}
	slices.Sort(ids)
	return ids
}

// settled checks what has to be when a migration is over: the guest has its
// devices on the owner's host, nobody else has one, and no room is held. What a
// lost host has is not looked at, and a guest on one is lost with it.
func (q *quick) settled(m *api.Migration, vm string, lost ...string) error {
	on, ids, err := q.vms.On(vm)
	if err != nil {
		return err
	}
	if on != m.Host && !slices.Contains(lost, on) {
		return fmt.Errorf("the guest runs on %s, and the devices are %s's, %s: %s", on, m.Host, m.State, m.Reason)
	}
	for name := range q.hosts {
		want := []string(nil)
		switch {
		case slices.Contains(lost, name):
			continue
		case name == on:
			want = ids
		case name == m.Host:
			for _, d := range m.Devices {
				want = append(want, map[string]string{m.Source: d.Source, m.Target: d.Target}[name])
			}
			slices.Sort(want)
		}
		if got := q.devices(name); !slices.Equal(got, want) {
			return fmt.Errorf("%s: %s has %q, and the guest on %s has %q", m.State, name, got, on, ids)
		}
	}
	if err := q.vms.Work(vm); err != nil {
		return fmt.Errorf("the guest does not work on: %w", err)
	}
	if claims := q.serves().Claims("", 0, false).Claims; len(claims) > 0 {
		return fmt.Errorf("%s, and room is held: %+v", m.State, claims)
	}
	return nil
}

// tell says something to the server until it is heard, or for as long as the VM
// manager has patience.
func (q *quick) tell(patience time.Duration, say func(ctx context.Context) (*api.Migration, error)) (*api.Migration, error) {
	end := time.Now().Add(patience)
	for {
		ctx, cancel := context.WithTimeout(q.t.Context(), 20*time.Second)
		m, err := say(ctx)
		cancel()
		refused, ok := errors.AsType[*api.Problem](err)
		if err == nil || ok && refused.Code != api.Unavailable || time.Now().After(end) {
			return m, err
		}
		time.Sleep(time.Second)
	}
}
