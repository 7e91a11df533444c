// SPDX-License-Identifier: Apache-2.0

//go:build linux

package contention

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"kindred/api"
	"kindred/client"
	"kindred/inventory"
)

// memberVariable makes this program a member of an etcd cluster: NAME and the
// directory of all.
const memberVariable = "KINDRED_CONTENTION_MEMBER"

func TestMain(m *testing.M) {
	if name := os.Getenv(memberVariable); name != "" {
		if err := member(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// cluster are the members' addresses, in the order of their nodes.
const cluster = "etcd1=http://10.77.0.1:2380,etcd2=http://10.77.0.2:2380,etcd3=http://10.77.0.3:2380"

// member is one member of etcd, with what etcd's own program would have by
// default: it waits for the disk, and elects after a second.
func member(name string) error {
	n := strings.TrimPrefix(name, "etcd")
	at := func(port string) []url.URL { return []url.URL{{Scheme: "http", Host: "10.77.0." + n + ":" + port}} }
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = name, filepath.Join(os.Getenv(insideVariable), name)
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = at("2380"), at("2380")
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = at("2379"), at("2379")
	cfg.InitialCluster, cfg.LogLevel = cluster, "error"
	cfg.LogOutputs = []string{"stderr"}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	defer e.Close()
	told, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	select {
	case <-told.Done():
		return nil
	case err := <-e.Err():
		return err
	}
}

// site is three servers and three members that run, and hosts that report.
type site struct {
	*world
	members, servers []*node
	sockets          []string
}

// newMembers starts the members, and servers with them at the end of the test.
func newMembers(t *testing.T) (s *site, endpoints []string) {
	t.Helper()
	s = &site{world: newWorld(t)}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			s.explain()
		}
		for _, n := range s.nodes {
			n.signal(os.Kill)
		}
	})
	for i := range 3 {
		n := s.add(fmt.Sprintf("etcd%d", i+1))
		n.argv, n.env = []string{program}, []string{memberVariable + "=" + n.name}
		s.members = append(s.members, n)
		endpoints = append(endpoints, "http://"+n.address+":2379")
		n.start()
	}
	return s, endpoints
}

// newSite starts everything.
func newSite(t *testing.T) *site {
	t.Helper()
	s, endpoints := newMembers(t)
	if err := os.MkdirAll(s.file("catalogs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.file("catalogs/ns.yaml"), []byte(catalog), 0o644); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		n := s.add(fmt.Sprintf("server%d", i+1))
		socket := s.file(n.name + ".sock")
		// Nobody falls silent here: what is tried is claims.
		n.argv = []string{
			s.file("kindredd"), "serve", "--etcd-endpoints", strings.Join(endpoints, ","), "--socket", socket,
			"--catalogs", s.file("catalogs"), "--proof-keys", s.file("keys"), "--interval", "10m", "--timeout", "30m", "--claim-ttl", "1h",
		}
		s.servers = append(s.servers, n)
		s.sockets = append(s.sockets, "unix:"+socket)
	}
	s.keepUp()
	for i := range s.servers {
		c := s.client(i)
		s.until("a server answers", func(ctx context.Context) bool { _, err := c.Health(ctx); return err == nil })
		c.Close()
	}
	return s
}

// keepUp starts servers that ended, as a service manager does: one that finds no
// store when it starts gives up.
func (s *site) keepUp() {
	var all sync.WaitGroup
	s.t.Cleanup(all.Wait) // before what runs is killed, and not started again
	for _, n := range s.servers {
		n.start()
		all.Go(func() {
			for s.t.Context().Err() == nil {
				time.Sleep(200 * time.Millisecond)
				n.mu.Lock()
				ended := n.ended
				n.mu.Unlock()
				select {
				case <-ended:
					n.start()
				default:
				}
			}
		})
	}
}

// client asks all servers, one of them first.
func (s *site) client(first int) *client.Client {
	s.t.Helper()
	c, err := client.New(append(append([]string{}, s.sockets[first%3:]...), s.sockets[:first%3]...), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// patience is how long anything may take that nobody holds up.
const patience = 90 * time.Second

func (s *site) until(what string, done func(context.Context) bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
		ok := done(ctx)
		cancel()
		if ok {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("after %v not yet: %s", patience, what)
		}
	}
}

func (s *site) explain() {
	for _, n := range s.nodes {
		data, err := os.ReadFile(s.file(n.name + ".log"))
		if err != nil {
			continue
		}
		lines := strings.Split(string(data), "\n")
		s.t.Logf("%s said:\n%s", n.name, strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
}

// catalog says how types share a parent.
const catalog = `schema: kindred.catalog/v1
namespaces: [ns]
migration:
  - {can: "yes", source: test}
build:
  modules: [m]
capacity:
  model: pools
  source: test
  pools:
    - name: units
      takes:
        - {types: small, units: 1}
        - {types: large, units: 2}
`

// units is what each parent of a target has, and sizes what types take of it.
const units = 5

var sizes = map[string]int{"small": 1, "large": 2}

// host is a host's inventory: parents with so many units each, and devices on the
// first.
func host(name string, parents, units int, devices []inventory.Device) *inventory.Inventory {
	inv := &inventory.Inventory{
		Schema: inventory.Schema, Origin: inventory.FromSimulator, Taken: time.Now().UTC(),
		Host:    inventory.Host{Name: name, QEMU: inventory.Of("9.0"), Libvirt: inventory.Of("10.0")},
		Modules: []inventory.Module{{Name: "m", BuildID: inventory.Of("b1")}},
		Devices: devices,
	}
	for i := range parents {
		p := inventory.Parent{Name: fmt.Sprint("p", i), Kind: inventory.MdevParent, Namespace: "ns"}
		for typ, size := range sizes {
			p.Types = append(p.Types, inventory.Type{
				TypeName: inventory.TypeName{Namespace: "ns", Name: typ}, DeviceAPI: inventory.Of("vfio-pci"), Label: inventory.Of(typ),
				Creatable: inventory.Yes, ListedBy: inventory.ListedByKernel, Attributes: inventory.Attributes{Complete: true}, Available: new(units / size),
			})
		}
		inv.Parents = append(inv.Parents, p)
	}
	inv.Sort()
	return inv
}

// report tells of a host, as its agent does; version names what is told.
func report(ctx context.Context, c *client.Client, inv *inventory.Inventory, version string) error {
	static, own := inventory.Split(inv)
	digest, err := static.Digest()
	if err != nil {
		return err
	}
	own.Static = digest
	r := &api.Report{Own: own, Version: version, Agent: "test", Mode: api.Manage}
	_, err = c.Report(ctx, inv.Host.Name, r)
	if errors.Is(err, &api.Problem{Code: api.NeedStatic}) {
		if err = c.PutStatic(ctx, digest, static); err == nil {
			_, err = c.Report(ctx, inv.Host.Name, r)
		}
	}
	return err
}
