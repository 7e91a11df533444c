// SPDX-License-Identifier: Apache-2.0

//go:build linux

package contention

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"kindred/api"
	"kindred/server/store"
)

// TestContentionShort is a small one, for every day.
func TestContentionShort(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts six processes")
	}
	if inside(t) {
		contend(t, size{clients: 24, targets: 2, long: 6 * time.Second, fault: 1500 * time.Millisecond})
	}
}

// TestContention is the whole: make test-contention.
func TestContention(t *testing.T) {
	if os.Getenv("KINDRED_NET") == "" {
		t.Skip("two minutes: make test-contention")
	}
	if inside(t) {
		contend(t, size{clients: 200, targets: 8, long: 80 * time.Second, fault: 5 * time.Second})
	}
}

// TestStale: a member that was cut off confirms nothing by what it has seen, also
// not that something is still so.
func TestStale(t *testing.T) {
	if !inside(t) {
		return
	}
	s, endpoints := newMembers(t)
	var stores []*store.Store
	for _, one := range endpoints {
		s.until(one+" answers", func(ctx context.Context) bool {
			kept, err := store.Existing{Endpoints: []string{one}}.Open(ctx)
			if err == nil {
				stores = append(stores, kept)
			}
			return err == nil
		})
	}
	for _, kept := range stores {
		defer kept.Close()
	}
	first, last := stores[0], stores[2]
	write := store.Txn{Then: []store.Write{{Key: "room/x", Value: []byte("1")}}}
	var before int64
	s.until("it is written", func(ctx context.Context) bool { // they may choose another leader still
		var err error
		before, _, err = first.Commit(ctx, write)
		return err == nil
	})
	is := store.Txn{If: []store.Guard{{Key: "room/x", Revision: before}}}
	s.until("the last member has seen it", func(ctx context.Context) bool {
		_, ok, err := last.Commit(ctx, is)
		return ok && err == nil
	})
	apart(s.members[2:], s.members[:2])
	s.until("the others go on", func(ctx context.Context) bool {
		_, ok, err := first.Commit(ctx, write)
		return ok && err == nil
	})
	if _, ok, err := last.Commit(t.Context(), is); ok || err == nil {
		t.Errorf("a member that is cut off says that what changed is as it was: %v, %v", ok, err)
	}
}

// size is how much is tried.
type size struct {
	clients, targets int
	long, fault      time.Duration
}

func contend(t *testing.T, size size) {
	s := newSite(t)
	c := newCrowd(s, size.clients, size.targets)
	asks := s.client(0)
	defer asks.Close()
	health, err := asks.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := health.Revision
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d clients, 3 servers, 3 members, %d targets of 2 parents of %d units; chance %d", size.clients, size.targets, units, seed)
	var n int
	c.run(func() {
		s.until("clients are at work", func(context.Context) bool {
			taken, full, given := c.count()
			return taken > 0 && full > 0 && given > 0
		})
		end := time.Now().Add(size.long)
		n = s.trouble(end, size.fault, rand.New(rand.NewPCG(seed, 0)))
		time.Sleep(time.Until(end))
	})
	for _, err := range c.mistakes {
		t.Error(err)
	}
	taken, full, given := c.count()
	t.Logf("%d faults; %d operations: %d took room, %d were told that there is none, %d gave it back; %d times asked again; the longest took %v",
		n, len(c.history), taken, full, given, c.again.Load(), c.longest.Round(time.Millisecond))
	if n == 0 {
		t.Error("nothing went wrong")
	}
	began := time.Now()
	if err := linearizable(c.history); err != nil {
		t.Error("what clients were answered cannot have been so: ", err)
	}
	t.Logf("linearizable, found in %v", time.Since(began).Round(time.Millisecond))
	c.replay(before)
}

func (c *crowd) count() (taken, full, given int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, op := range c.history {
		switch {
		case op.Input.(asked).give:
			given++
		case op.Output.(answered).full:
			full++
		default:
			taken++
		}
	}
	return taken, full, given
}

// replay goes through every change of claims since a revision, in the store's
// order: claims hold no more than there is at any of them, and each that a client
// was answered with was there, as it was told, and ended.
func (c *crowd) replay(after int64) {
	t := c.t
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	asks := c.client(1)
	defer asks.Close()
	// A last claim, made and given back, says where the changes end.
	last, err := asks.CreateClaim(ctx, "", &api.ClaimRequest{Devices: []string{"from0/" + deviceOf(0, 0)}, Target: "to0"})
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	open := make(map[string]*api.Claim)
	seen := make(map[string]used)
	held := make(map[string]used)
	most, changes := used{}, 0
	err = asks.Events(ctx, []api.EventKind{api.ClaimEvent}, after, func(e *api.Event) error {
		if e.Claim == nil {
			return fmt.Errorf("%+v", e)
		}
		if e.Claim.ID == last.ID {
			return enough
		}
		changes++
		claim, place := e.Claim, placeOf(e.Claim)
		now := held[claim.Target]
		switch was := open[claim.ID]; {
		case claim.State == api.Ended && was != nil:
			held[claim.Target] = used{now[0] - place[0], now[1] - place[1]}
			delete(open, claim.ID)
		case claim.State == api.Held && was == nil:
			held[claim.Target] = used{now[0] + place[0], now[1] + place[1]}
			open[claim.ID], seen[claim.ID] = claim, place
		}
		for i, n := range held[claim.Target] {
			most[i] = max(most[i], n)
			if n > units {
				return fmt.Errorf("at revision %d %d units of p%d of %s are held, and it has %d", e.Revision, n, i, claim.Target, units)
			}
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal("replay: ", err)
	}
	t.Logf("%d changes of claims: never more than %v units of %d held", changes, most, units)
	for id, place := range c.took {
		if seen[id] != place {
			t.Errorf("claim %s was answered with %v, and the store has it with %v", id, place, seen[id])
		}
	}
	if len(seen) != len(c.took) {
		t.Errorf("%d claims were made, clients heard of %d", len(seen), len(c.took))
	}
	if len(open) > 0 {
		t.Errorf("%d claims hold room, and all were given back", len(open))
	}
}
