// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"

	"kindred/host/change"
	"kindred/inventory"
	"kindred/sim"
)

const parent = "sim0"

// oldType is the type of the guest's device.
var oldType = inventory.TypeName{Namespace: sim.Namespace, Name: "V4"}

// startGuest makes the guest's device on the old host, and lets the guest run.
func (s *site) startGuest(ctx context.Context) error {
	dev, err := s.hosts["old-1"].Start(ctx, change.Request{
		Kind: inventory.Mdev, ID: sim.UUID(guest, 1), Parent: parent, Type: oldType.Full(), Attributes: []change.Attribute{{Name: "weight", Value: "7"}},
	})
	if err != nil {
		return err
	}
	s.device = dev.ID
	if err := s.vms.Run(guest, "old-1", dev.ID); err != nil {
		return err
	}
	return s.until(ctx, "the guest's device is reported", func() bool {
		h, err := s.client.Host(ctx, "old-1")
		return err == nil && h.Devices == 1 && h.Inventory.Devices[0].InUse == inventory.Yes
	})
}

func controlSocket(dir string) string { return filepath.Join(dir, "demo.sock") }

// listen takes orders of those who type commands beside the demo.
func (s *site) listen(ctx context.Context) error {
	l, err := net.Listen("unix", controlSocket(s.opts.dir))
	if err != nil {
		return err
	}
	s.control = l
	mux := http.NewServeMux()
	handle := func(name string, do func(ctx context.Context, q func(string) string, out io.Writer) error) {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
			var text strings.Builder
			if err := do(r.Context(), r.URL.Query().Get, &text); err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
			_, _ = io.WriteString(w, text.String()) // who left needs no answer
		})
	}
	handle("guests", func(_ context.Context, _ func(string) string, out io.Writer) error {
		on, ids, err := s.vms.On(guest)
		if err == nil {
			fmt.Fprintf(out, "%s runs on %s with %s\n", guest, on, strings.Join(ids, ", "))
		}
		return err
	})
	handle("move", func(ctx context.Context, q func(string) string, out io.Writer) error {
		return s.move(ctx, q("migration"), out)
	})
	server := &http.Server{Handler: mux, BaseContext: func(net.Listener) context.Context { return ctx }}
	s.running.Go(func() { _ = server.Serve(l) }) // ends with the listener
	return nil
}

// move does the VM manager's part of a migration: it takes the prepared devices,
// moves the state and says how that ended. The guest works before and after.
func (s *site) move(ctx context.Context, id string, out io.Writer) error {
	if err := s.vms.Work(guest); err != nil {
		return err
	}
	mig, moved, err := s.vms.Carry(ctx, s.client, id)
	if err != nil {
		return err
	}
	for _, d := range mig.Devices {
		fmt.Fprintf(out, "moved %d KiB of state from %s on %s to %s on %s\n", moved.Bytes>>10, d.Source, mig.Source, d.Target, mig.Target)
	}
	fmt.Fprintf(out, "verified: %s sees the same config space, registers and memory as before, and works on\n", guest)
	return nil
}

// ask gives an order to a demo that runs.
func ask(ctx context.Context, dir, what string) (string, error) {
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", controlSocket(dir))
	}}}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://demo/"+what, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", fmt.Errorf("is a demo running? %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		return "", errors.New(strings.TrimSpace(string(text)))
	}
	return string(text), err
}
