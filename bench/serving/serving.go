// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package serving runs a kindredd over a fleet that does not exist, as a process
// of its own, to be measured from outside: what it uses of memory, processor and
// disk is its own and not the load's.
//
// The server is the real one, with etcd within, in a directory that the caller
// removes. It listens on the loopback address alone: with TLS for hosts and
// administrators, who have certificates of an [Authority] that ends with the
// caller, and without for a peer that has no TLS either.
package serving

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"kindred/bench/fleets"
	"kindred/client"
	"kindred/compat/proofs"
)

// Server is a kindredd that runs.
type Server struct {
	Dir       string // everything of it
	PID       int
	TLS       string // addresses
	Plain     string
	Authority *Authority

	command *exec.Cmd
	ended   chan error
	said    chatter
}

// Build builds the server into a directory, as "make build" does.
func Build(ctx context.Context, dir string) error {
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "kindredd"), "kindred/cmd/kindredd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build kindredd: %w: %s", err, out)
	}
	return nil
}

// Prepare writes what a server of that fleet begins with: a catalog, an
// authority's certificates, and a key to sign the fleet's proofs.
func Prepare(dir string, made *fleets.Fleet) (*Authority, *proofs.PrivateKey, error) {
	key, err := proofs.NewPrivateKey("bench", rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	authority, err := newAuthority()
	if err != nil {
		return nil, nil, err
	}
	err = errors.Join(os.MkdirAll(filepath.Join(dir, "catalogs"), 0o755), os.MkdirAll(filepath.Join(dir, "keys"), 0o755))
	if err != nil {
		return nil, nil, err
	}
	return authority, key, errors.Join(
		os.WriteFile(filepath.Join(dir, "catalogs", "acme.yaml"), made.Catalog, 0o644),
		os.WriteFile(filepath.Join(dir, "keys", "bench.pub"), fmt.Appendf(nil, "%s\n", key.Public()), 0o644),
		authority.write(dir),
	)
}

// startWait is how long a server may take until it listens.
const startWait = 2 * time.Minute

// Start starts the server of a prepared directory, which knows what it knew
// when it was stopped, and returns when it listens. More flags may be given.
func Start(ctx context.Context, dir string, authority *Authority, flags ...string) (*Server, error) {
	in := func(name string) string { return filepath.Join(dir, name) }
	s := &Server{Dir: dir, Authority: authority, ended: make(chan error, 1)}
	s.command = exec.Command(in("kindredd"), append([]string{
		"serve", "--data-dir", in("data"), "--socket", "",
		"--listen", "127.0.0.1:0", "--tls-cert", in("server.pem"), "--tls-key", in("server.key"), "--tls-ca", in("ca.pem"),
		"--listen-loopback", "127.0.0.1:0", "--catalogs", in("catalogs"), "--proof-keys", in("keys"),
	}, flags...)...)
	s.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.command.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.command.Start(); err != nil {
		return nil, fmt.Errorf("start kindredd: %w", err)
	}
	s.PID = s.command.Process.Pid
	listening := make(chan struct{})
	go func() {
		defer func() { s.ended <- s.command.Wait() }()
		for lines := bufio.NewScanner(out); lines.Scan(); {
			s.said.add(lines.Text())
			_, address, ok := strings.Cut(lines.Text(), "listening on ")
			switch {
			case !ok:
			case strings.HasPrefix(address, "https:"):
				s.TLS = address
			default:
				s.Plain = address
			}
			if ok && s.TLS != "" && s.Plain != "" {
				close(listening)
			}
		}
	}()
	select {
	case <-listening:
		return s, nil
	case err := <-s.ended:
		return nil, fmt.Errorf("kindredd ended: %w: %s", err, s.said.text())
	case <-time.After(startWait):
		return nil, errors.Join(fmt.Errorf("kindredd does not listen after %s: %s", startWait, s.said.text()), s.Stop())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), s.Stop())
	}
}

// Stop ends the server as a service manager does, and not kindly after a while.
func (s *Server) Stop() error {
	_ = s.command.Process.Signal(syscall.SIGTERM) // one that ended already is what is wanted
	select {
	case err := <-s.ended:
		return err
	case <-time.After(30 * time.Second):
		return errors.Join(errors.New("kindredd did not stop when it was told to"), s.command.Process.Kill(), <-s.ended)
	}
}

// Said is what the server complained of.
func (s *Server) Said() string { return s.said.text() }

// Ask makes a client of the server, as an administrator without TLS.
func (s *Server) Ask() (*client.Client, error) { return client.New([]string{s.Plain}, nil) }

// Learn gives the server the fleet's proofs.
func (s *Server) Learn(ctx context.Context, key *proofs.PrivateKey, made *fleets.Fleet) error {
	c, err := s.Ask()
	if err != nil {
		return err
	}
	defer c.Close()
	const most = 500 // of one record
	for part := range slices.Chunk(made.Proofs, most) {
		f := &proofs.File{Schema: proofs.Schema, Proofs: part}
		if err := f.Sign(key); err != nil {
			return err
		}
		if err := c.AddProofs(ctx, f); err != nil {
			return fmt.Errorf("give the server proofs: %w", err)
		}
	}
	return nil
}

// Client is the TLS side of who has a certificate of that name.
func (s *Server) Client(name string) (*tls.Config, error) { return s.Authority.Client(name) }

// chatter keeps the last of what a program says.
type chatter struct {
	mu    sync.Mutex
	lines []string
	more  int
}

func (c *chatter) add(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.lines) >= 20 {
		c.lines, c.more = c.lines[1:], c.more+1
	}
	c.lines = append(c.lines, line)
}

func (c *chatter) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := strings.Join(c.lines, "\n")
	if c.more > 0 {
		text = fmt.Sprintf("(%d lines before)\n%s", c.more, text)
	}
	return text
}
