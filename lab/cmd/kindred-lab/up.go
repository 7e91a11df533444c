// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"kindred/lab"
)

const bootTimeout = 2 * time.Minute

// up boots hosts, offers them and stays until ctx ends, the panes are left or no
// host is alive any more.
func up(ctx context.Context, args []string) error {
	flags := newFlags("up")
	kindred := flags.String("kindred", "", "the program to put into the hosts; built from ./cmd/kindred if empty")
	tmux := flags.Bool("tmux", false, "open a pane with a shell for each host")
	if err := flags.Parse(args); err != nil {
		return exitCode(2)
	}
	names := flags.Args()
	if len(names) == 0 {
		names = []string{"a", "b"}
	}
	if *tmux && !term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("-tmux needs a terminal")
	}
	hosts, err := hostsNamed(names)
	if err != nil {
		return err
	}
	dir, err := runDir()
	if err != nil {
		return err
	}
	defer os.Remove(dir) // if no other kindred-lab has a host in it
	artefacts, err := lab.Prepare(ctx, "", logf)
	if err != nil {
		return err
	}
	program, remove, err := program(ctx, *kindred)
	if err != nil {
		return err
	}
	defer remove()

	var alive sync.WaitGroup
	ctx, stop := context.WithCancel(ctx)
	defer alive.Wait()
	defer stop()
	var booting errgroup.Group
	for _, h := range hosts {
		booting.Go(func() error {
			ready := make(chan error, 1)
			alive.Go(func() {
				err := keep(ctx, artefacts, h, dir, program, ready)
				if err != nil && ctx.Err() == nil {
					logf("kindred-lab: %v", err)
				}
			})
			return <-ready
		})
	}
	if err := booting.Wait(); err != nil {
		return err
	}
	if *tmux {
		return panes(ctx, names)
	}
	fmt.Println("Ctrl-C ends them all.")
	gone := make(chan struct{})
	go func() { alive.Wait(); close(gone) }()
	select {
	case <-ctx.Done():
	case <-gone:
		return errors.New("no host is left")
	}
	return nil
}

func hostsNamed(names []string) ([]lab.Host, error) {
	var hosts []lab.Host
	for i, name := range names {
		h, ok := lab.KnownHost(name)
		if !ok {
			return nil, fmt.Errorf("no host %q; kindred-lab help lists them", name)
		}
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("host %s is named twice", name)
		}
		h.Network = &lab.Network{}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// keep runs one host's life and tells once on ready how its start went.
func keep(ctx context.Context, a *lab.Artefacts, h lab.Host, dir, program string, ready chan<- error) error {
	guest, console, control, err := start(ctx, a, h, dir, program)
	ready <- err
	if err != nil {
		return nil // told
	}
	defer guest.Close()
	self, err := os.Executable()
	if err != nil {
		self = "kindred-lab"
	}
	fmt.Printf("%s is up: %s shell %s (or: %s exec %s -- COMMAND)\n", h.Name, self, h.Name, self, h.Name)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return guest.ServeConsole(ctx, console) })
	g.Go(func() error { return guest.Serve(ctx, control) })
	g.Go(func() error { return guest.Wait(ctx) })
	return g.Wait()
}

func start(ctx context.Context, a *lab.Artefacts, h lab.Host, dir, program string) (_ *lab.Guest, console, control net.Listener, err error) {
	if console, err = listen(consoleSocket(dir, h.Name)); err != nil {
		return nil, nil, nil, err
	}
	if control, err = listen(controlSocket(dir, h.Name)); err != nil {
		console.Close()
		return nil, nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	guest, err := lab.Boot(ctx, a, h)
	if err == nil && program != "" {
		if err = put(ctx, guest, program); err != nil {
			guest.Close()
		}
	}
	if err != nil {
		console.Close()
		control.Close()
		return nil, nil, nil, err
	}
	return guest, console, control, nil
}

func put(ctx context.Context, guest *lab.Guest, program string) error {
	f, err := os.Open(program)
	if err != nil {
		return fmt.Errorf("putting kindred into the host: %w", err)
	}
	defer f.Close()
	return guest.Put(ctx, "/usr/bin/kindred", 0o755, f)
}

// program finds or builds what to put into the hosts. That it does not build is no
// reason not to have hosts.
func program(ctx context.Context, given string) (path string, remove func(), err error) {
	if given != "" {
		_, err := os.Stat(given)
		return given, func() {}, err
	}
	dir, err := os.MkdirTemp("", "kindred-lab-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { os.RemoveAll(dir) }
	path = filepath.Join(dir, "kindred")
	if err := lab.BuildStatic(ctx, "kindred/cmd/kindred", path); err != nil {
		logf("kindred-lab: the hosts get no kindred: %v", err)
		return "", remove, nil
	}
	return path, remove, nil
}
