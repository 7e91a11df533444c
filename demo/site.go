// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"kindred/client"
	"kindred/compat"
	"kindred/compat/proofs"
	"kindred/prove"
	"kindred/sim"
	"kindred/sim/hosts"
)

// machines is which hosts there are, and what they are made of.
var machines = []struct{ name, build, about string }{
	{"old-1", "gen8", "an older generation; the guest's device is here"},
	{"old-2", "gen8", "the same as old-1"},
	{"new-1", "gen9", "a newer generation, which also offers the old type"},
	{"new-2", "gen9", "the same as new-1"},
	{"next-1", "rel11", "a newer release of the driver; nobody has tried it yet"},
	{"other-1", "rel20", "a release with another interface version"},
}

const guest = "guest-1"

// site is the demo's fleet while it runs.
type site struct {
	opts   *options
	client *client.Client
	hosts  map[string]*hosts.Host
	vms    *hosts.Manager
	engine *compat.Engine
	key    *proofs.PrivateKey
	device string // the guest's, at first

	server  *exec.Cmd
	serving chan struct{} // closed when the server ended
	control net.Listener
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func (o *options) socket() string { return filepath.Join(o.dir, "server.sock") }

// serve is how the server is started.
func (o *options) serve() []string {
	return []string{
		"serve", "--data-dir", filepath.Join(o.dir, "data"), "--socket", o.socket(),
		"--catalogs", filepath.Join(o.dir, "catalog.d"), "--proof-keys", filepath.Join(o.dir, "keys.d"), "--interval", "2s", "--timeout", "10s",
	}
}

// start starts the server, the hosts with their agents, and the guest.
func start(ctx context.Context, opts *options) (*site, error) {
	s := &site{opts: opts, hosts: make(map[string]*hosts.Host)}
	catalog, err := compat.ParseCatalog("ksim.yaml", sim.Catalog)
	if err != nil {
		return nil, err
	}
	catalogs, err := compat.NewCatalogs(nil, []*compat.Catalog{catalog})
	if err != nil {
		return nil, err
	}
	s.engine = compat.NewEngine(catalogs, nil)
	if s.key, err = proofs.NewPrivateKey("demo", rand.Reader); err != nil {
		return nil, err
	}
	for name, data := range map[string][]byte{"catalog.d/ksim.yaml": sim.Catalog, "keys.d/demo.pub": []byte(s.key.Public().String() + "\n")} {
		file := filepath.Join(opts.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, data, 0o644)); err != nil {
			return nil, err
		}
	}
	if s.client, err = client.New([]string{"unix:" + opts.socket()}, nil); err != nil {
		return nil, err
	}
	agents, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	for _, begin := range []func(context.Context) error{s.startServer, func(context.Context) error { return s.startHosts(agents) }, s.startGuest, s.listen} {
		if err := begin(ctx); err != nil {
			return nil, errors.Join(err, s.stop())
		}
	}
	return s, nil
}

// startServer starts kindredd and waits until it answers.
func (s *site) startServer(ctx context.Context) error {
	log, err := os.Create(filepath.Join(s.opts.dir, "server.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	s.server = exec.Command(filepath.Join(s.opts.bin, "kindredd"), s.opts.serve()...)
	s.server.Stdout, s.server.Stderr = log, log
	// An interrupt at the terminal is for the demo, which stops it in order.
	s.server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.server.Start(); err != nil {
		s.server = nil
		return err
	}
	s.serving = make(chan struct{})
	go func() {
		_ = s.server.Wait() // what it said is in its log
		close(s.serving)
	}()
	return s.until(ctx, "the server answers", func() bool {
		_, err := s.client.Health(ctx)
		return err == nil
	})
}

// until waits for something that takes a moment.
func (s *site) until(ctx context.Context, what string, done func() bool) error {
	for end := time.Now().Add(30 * time.Second); !done(); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.serving:
			text, _ := os.ReadFile(filepath.Join(s.opts.dir, "server.log"))
			return fmt.Errorf("the server ended: %s", text)
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("this did not come in 30 seconds: %s", what)
		}
	}
	return nil
}

func (s *site) startHosts(ctx context.Context) error {
	var list []*hosts.Host
	for _, f := range machines {
		h, err := hosts.Build(f.name, f.build, 2, filepath.Join(s.opts.dir, "hosts", f.name))
		if err != nil {
			return err
		}
		s.hosts[f.name] = h
		list = append(list, h)
		if err := h.Allow(hosts.AllowAll); err != nil {
			return err
		}
		a, err := h.Agent(s.client)
		if err != nil {
			return err
		}
		a.Poll, a.Retry, a.Coalesce = time.Second, 100*time.Millisecond, 20*time.Millisecond
		s.running.Go(func() { _ = a.Run(ctx) }) // it ends with ctx, and never otherwise
	}
	s.vms = hosts.NewManager(list...)
	return s.until(ctx, "all hosts report", func() bool {
		known, err := s.client.Hosts(ctx)
		return err == nil && len(known) == len(machines)
	})
}

// prove has canaries moved from a host to another, and tells the server.
func (s *site) prove(ctx context.Context, from, to string) (*compat.Proof, error) {
	a, b := s.hosts[from], s.hosts[to]
	if a == nil || b == nil {
		return nil, fmt.Errorf("prove: there is no host %q or %q", from, to)
	}
	from1, err := a.Canaries(prove.Local)
	if err != nil {
		return nil, err
	}
	to1, err := b.Canaries(prove.Local)
	if err != nil {
		return nil, err
	}
	p := &prove.Prover{Engine: s.engine, Version: "demo", Now: time.Now, Scratch: s.opts.dir, Tries: 2}
	proof, err := p.Prove(ctx, &prove.Side{Host: from1, Parent: parent, Type: oldType}, &prove.Side{Host: to1, Parent: parent, Type: oldType})
	if err != nil {
		return nil, err
	}
	file := &proofs.File{Schema: proofs.Schema, Proofs: []compat.Proof{*proof}}
	if err := file.Sign(s.key); err != nil {
		return nil, err
	}
	return proof, s.client.AddProofs(ctx, file)
}

// stop ends everything, in order.
func (s *site) stop() (err error) {
	if s.control != nil {
		err = s.control.Close()
	}
	if s.vms != nil {
		err = errors.Join(err, s.vms.Stop(guest))
	}
	s.cancel()
	s.running.Wait()
	s.client.Close()
	if s.server != nil {
		err = errors.Join(err, s.endServer())
	}
	for _, h := range s.hosts {
		err = errors.Join(err, h.Close())
	}
	return err
}

func (s *site) endServer() error {
	select {
	case <-s.serving:
		return nil
	default:
	}
	if err := s.server.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	select {
	case <-s.serving:
		return nil
	case <-time.After(15 * time.Second):
		return errors.Join(errors.New("the server did not stop when it was told to"), s.server.Process.Kill())
	}
}
