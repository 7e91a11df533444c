// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"kindred/agent"
	"kindred/client"
	"kindred/compat"
	"kindred/sim"
	"kindred/sim/hosts"
	"kindred/trust"
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
	device string // the guest's, at first
	secure string // the server's address for agents
	lines  []*client.Client

	server  *exec.Cmd
	serving chan struct{} // closed when the server ended
	control net.Listener
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func (o *options) socket() string { return filepath.Join(o.dir, "server.sock") }

// serve is how the server is started.
func (s *site) serve() []string {
	in := func(name string) string { return filepath.Join(s.opts.dir, name) }
	return []string{
		"serve", "--data-dir", in("data"), "--socket", s.opts.socket(), "--listen", s.secure, "--reach", "127.0.0.1", "--seal-key", in("seal.key"),
		"--catalogs", in("catalog.d"), "--interval", "2s", "--timeout", "10s",
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
	file := filepath.Join(opts.dir, "catalog.d", "ksim.yaml")
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, sim.Catalog, 0o644)); err != nil {
		return nil, err
	}
	if s.secure, err = freeAddress(); err != nil {
		return nil, err
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

// freeAddress is one on which nobody listens at this moment.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// startServer starts kindredd and waits until it answers.
func (s *site) startServer(ctx context.Context) error {
	log, err := os.Create(filepath.Join(s.opts.dir, "server.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	s.server = exec.Command(filepath.Join(s.opts.bin, "kindredd"), s.serve()...)
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
		a, err := s.joined(ctx, h)
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

// joined is the agent of a host that joined by a token, as a real one does.
func (s *site) joined(ctx context.Context, h *hosts.Host) (*agent.Agent, error) {
	address := "https://" + s.secure
	c, err := hosts.Join(ctx, s.client, address, h.Name)
	if err != nil {
		return nil, err
	}
	line, err := client.New([]string{address}, trust.ClientTLS(c, time.Now))
	if err != nil {
		return nil, err
	}
	s.lines = append(s.lines, line)
	a, err := h.Agent(line)
	if err != nil {
		return nil, err
	}
	a.Canaries = &agent.Canaries{Engine: s.engine, Scratch: s.opts.dir, Credentials: c, Listen: "127.0.0.1:0"}
	return a, nil
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
	for _, line := range s.lines {
		line.Close()
	}
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
