// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kindred/agent"
	"kindred/api"
	"kindred/definition"
	"kindred/host/change"
	"kindred/host/policy"
	"kindred/inventory"
)

// card is a machine whose physical function has functions that its operator
// bound to their driver; nothing can be made or removed there.
type card struct {
	mu    sync.Mutex
	inUse map[string]inventory.Answer
}

func (c *card) Inventory(context.Context) (*inventory.Inventory, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	inv := &inventory.Inventory{
		Schema: inventory.Schema, Origin: inventory.FromSimulator, Host: inventory.Host{Name: "card"},
		Parents: []inventory.Parent{{Name: "0000:01:00.0", Kind: inventory.FunctionParent, Namespace: "var_vfio_pci", Types: []inventory.Type{{TypeName: function}}}},
	}
	for _, id := range []string{"0000:01:00.1", "0000:01:00.2"} {
		inv.Devices = append(inv.Devices, inventory.Device{ID: id, Kind: inventory.VF, Parent: "0000:01:00.0", Type: function, InUse: c.inUse[id]})
	}
	return inv, nil
}

var function = inventory.TypeName{Namespace: "var_vfio_pci", Name: "1234:0010"}

func (c *card) Changed() <-chan struct{} { return nil }
func (c *card) Policy() (*policy.Policy, error) {
	return policy.Parse([]byte(`manage: [{parent: "*"}]`))
}
func (c *card) Repair(context.Context) error       { return nil }
func (c *card) Stop(context.Context, string) error { return fmt.Errorf("nobody asked for that") }
func (c *card) Define(context.Context, *definition.Definition) error {
	return fmt.Errorf("nobody asked for that")
}
func (c *card) Undefine(context.Context, string, string) error {
	return fmt.Errorf("nobody asked for that")
}
func (c *card) Start(context.Context, change.Request) (change.Device, error) {
	return change.Device{}, fmt.Errorf("nobody asked for that")
}

// TestFunctions: a claim gets a function that is idle, each claim another, and
// gives it back as it was.
func TestFunctions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := &card{inUse: map[string]inventory.Answer{"0000:01:00.1": inventory.No, "0000:01:00.2": inventory.No}}, newServer("card")
		journal, err := agent.OpenJournal(filepath.Join(t.TempDir(), "agent.json"))
		if err != nil {
			t.Fatal(err)
		}
		a := &agent.Agent{Name: "card", Machine: c, Fleet: s, Journal: journal}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		defer func() { cancel(); <-done }()
		want := func(n int) api.Assignment {
			return api.Assignment{Claim: fmt.Sprint("c", n), Fence: int64(n), Step: 1, Do: api.Make, Spec: api.ClaimDevice{
				Source: fmt.Sprint("0000:09:00.", n), Kind: inventory.VF, Parent: "0000:01:00.0", Type: function,
			}}
		}
		s.want(2, want(1), want(2), want(3))
		later(time.Second)
		if s.said() != "made\nmade\nfailed: no function of 0000:01:00.0 that is var_vfio_pci-1234:0010 is idle" {
			t.Fatalf("%q", s.said())
		}
		last := s.statuses[len(s.statuses)-1].Statuses
		one, two := last[0].Device, last[1].Device
		if one == two || one == "" || two == "" {
			t.Fatalf("two claims have %q and %q", one, two)
		}
		c.mu.Lock()
		c.inUse[one] = inventory.Yes
		c.mu.Unlock()
		s.want(3, want(1), doing(want(2), api.Release, 2))
		later(time.Minute)
		if s.said() != "busy\ngone: it stays bound to its driver, as Kindred found it" {
			t.Errorf("%q", s.said())
		}
		s.want(4, doing(want(1), api.Release, 2), want(3))
		later(time.Minute)
		if got := s.statuses[len(s.statuses)-1].Statuses; s.said() != "busy: a process has it open\nmade" || got[1].Device != two {
			t.Errorf("%q, %q", s.said(), got[1].Device)
		}
		c.mu.Lock()
		c.inUse[one] = inventory.Unknown
		c.mu.Unlock()
		said := len(s.statuses)
		s.want(5, doing(want(1), api.Release, 2))
		later(time.Minute)
		if len(s.statuses) != said {
			t.Errorf("nobody knows whether it is in use, and it said %q", s.said())
		}
	})
}

// TestHold: a source that may still have the guest is left, and looked at.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := host(t, "gen9"), newServer("gen9")
		if err := create(h, 9); err != nil {
			t.Fatal(err)
		}
		id := startRequest(9).ID
		stop := running(t, h, s, true)
		defer stop()
		s.want(5, api.Assignment{Claim: "c", Fence: 4, Step: 3, Do: api.Hold, Device: id, Spec: api.ClaimDevice{Source: id}})
		later(time.Second)
		if s.said() != "made" {
			t.Errorf("idle: %q", s.said())
		}
		d, err := h.Open(id)
		if err != nil {
			t.Fatal(err)
		}
		later(time.Second)
		if s.said() != "busy" {
			t.Errorf("open: %q", s.said())
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		later(time.Second)
		if s.said() != "made" {
			t.Errorf("closed: %q", s.said())
		}
		if err := h.Stop(context.Background(), id); err != nil {
			t.Fatal(err)
		}
		later(time.Second)
		if s.said() != "gone" || len(devices(t, h)) != 0 {
			t.Errorf("removed by somebody: %q", s.said())
		}
	})
}
