// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"kindred/compat"
	"kindred/host"
	"kindred/host/mdev"
	"kindred/host/vfio"
	"kindred/inventory"
	"kindred/prove"
	"kindred/sim"
)

// canaries makes canaries on a simulated machine.
type canaries struct {
	*sim.Machine
	made int
}

func (c *canaries) Inventory(ctx context.Context) (*inventory.Inventory, error) {
	return host.Simulated(c.Machine).Inventory(ctx, host.Options{})
}

func (c *canaries) Make(_ context.Context, parent string, t inventory.TypeName) (string, error) {
	c.made++
	id := sim.UUID("canary", c.made)
	if err := mdev.Create(c.Machine, parent, t.Full(), id); err != nil {
		return "", err
	}
	return id, nil
}

func (c *canaries) Open(_ context.Context, id string) (vfio.Device, error) { return c.Machine.Open(id) }

func (c *canaries) Remove(ctx context.Context, id string) error {
	err := mdev.Remove(ctx, c.Machine, id, mdev.RemoveOptions{})
	if e, ok := errors.AsType[*mdev.Error](err); ok && e.Reason == mdev.NoDevice {
		return nil
	}
	return err
}

func (c *canaries) Listen() func([]string) []string {
	before := len(c.Log())
	return func(subjects []string) (lines []string) {
		for _, line := range c.Log()[before:] {
			for _, s := range subjects {
				if strings.Contains(line, s) {
					lines = append(lines, line)
					break
				}
			}
		}
		return lines
	}
}

// TestProofs makes proofs between simulated builds with the code that makes
// them between real ones: what a driver takes whole is accepted, what it refuses
// or a guest would notice is rejected, and what tells nothing is inconclusive.
func TestProofs(t *testing.T) {
	catalog, err := compat.ParseCatalog("ksim.yaml", sim.Catalog)
	if err != nil {
		t.Fatal(err)
	}
	catalogs, err := compat.NewCatalogs(nil, []*compat.Catalog{catalog})
	if err != nil {
		t.Fatal(err)
	}
	prover := &prove.Prover{
		Engine: compat.NewEngine(catalogs, nil), Version: "test", Tries: 2, Scratch: t.TempDir(),
		Now: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) },
	}
	side := func(build, typ string) *prove.Side {
		list, err := sim.Fleet(build)
		if err != nil {
			t.Fatal(err)
		}
		return &prove.Side{Host: &canaries{Machine: list[0]}, Parent: "sim0", Type: inventory.TypeName{Namespace: sim.Namespace, Name: typ}}
	}
	for _, c := range []struct {
		from, fromType, to, toType string
		want                       compat.Result
		log                        string
	}{
		{"gen8", "V4", "gen9", "V4", compat.Accepted, ""},
		{"gen9", "V4", "gen8", "V4", compat.Accepted, ""},
		{"gen8", "V4", "rel11", "V4", compat.Accepted, ""},
		{"rel11", "V4", "gen8", "V4", compat.Rejected, "version 1.1"},
		{"gen8", "V4", "rel20", "V4", compat.Rejected, "version 1.0"},
		{"gen8", "V4", "poor", "V4", compat.Rejected, "features"},
		{"poor", "V4", "gen8", "V4", compat.Accepted, ""},
		{"gen8", "V4", "swap", "V4", compat.Rejected, ""},     // taken, and the guest would notice
		{"gen8", "V4", "anything", "V4", compat.Accepted, ""}, // it fits, and that is verified
		{"rel20", "V4", "anything", "V4", compat.Rejected, ""},
		{"gen8", "V4", "cut", "V4", compat.Accepted, ""}, // verified, although it takes what is cut
		{"rel20", "V4", "forgets", "V4", compat.Rejected, "version 2.0"},
		{"bad11", "V4", "rel11", "V4", compat.Inconclusive, "sum"}, // it does not take its own
		{"gen8", "V4", "nomig", "V4", compat.Inconclusive, ""},
		{"gen9", "V5", "gen9", "V5", compat.Accepted, ""},
	} {
		t.Run(c.from+" to "+c.to, func(t *testing.T) {
			from, to := side(c.from, c.fromType), side(c.to, c.toType)
			proof, err := prover.Prove(context.Background(), from, to)
			if err != nil {
				t.Fatal(err)
			}
			if proof.Result != c.want || proof.Grade != compat.WorkingState {
				t.Errorf("%s at %s: %s %v", proof.Result, proof.Grade, proof.Detail, proof.Log)
			}
			if !strings.Contains(strings.Join(proof.Log, "\n"), c.log) {
				t.Errorf("the log does not say %q: %q", c.log, proof.Log)
			}
			for _, s := range []*prove.Side{from, to} {
				inv, err := s.Host.Inventory(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				if len(inv.Devices) > 0 {
					t.Errorf("canaries are left: %d", len(inv.Devices))
				}
			}
		})
	}
}
