// SPDX-License-Identifier: Apache-2.0

//go:build linux

package contention

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"kindred/api"
	"kindred/client"
	"kindred/inventory"
)

// crowd is clients that take and give room, each for devices of its own, and what
// they saw.
type crowd struct {
	*site
	began    time.Time
	sources  []*inventory.Inventory
	targets  []*inventory.Inventory
	clients  int
	again    atomic.Int64 // times that a request was sent again
	mu       sync.Mutex
	history  []porcupine.Operation
	took     map[string]used // claims that were answered with, and where
	longest  time.Duration
	mistakes []error
}

// owned are how many devices of each size a client has.
const owned = 2

// newCrowd has hosts for so many clients, which all report.
func newCrowd(s *site, clients, targets int) *crowd {
	s.t.Helper()
	c := &crowd{site: s, began: time.Now(), clients: clients, took: make(map[string]used)}
	const perHost = 50
	for first := 0; first < clients; first += perHost {
		var devices []inventory.Device
		for i := first; i < min(first+perHost, clients); i++ {
			for n := range 2 * owned {
				devices = append(devices, inventory.Device{
					ID: deviceOf(i, n), Kind: inventory.Mdev, Parent: "p0", Type: inventory.TypeName{Namespace: "ns", Name: []string{"small", "large"}[n/owned]},
					InUse: inventory.Yes, Attributes: inventory.Attributes{Complete: true},
				})
			}
		}
		c.sources = append(c.sources, host(fmt.Sprintf("from%d", first/perHost), 1, 2*units*perHost, devices))
	}
	for i := range targets {
		c.targets = append(c.targets, host(fmt.Sprintf("to%d", i), 2, units, nil))
	}
	asks := s.client(0)
	defer asks.Close()
	for _, inv := range slices.Concat(c.sources, c.targets) {
		s.until(inv.Host.Name+" reports", func(ctx context.Context) bool { return report(ctx, asks, inv, "0") == nil })
	}
	return c
}

// deviceOf is the n-th device of a client: small ones first.
func deviceOf(client, n int) string {
	return fmt.Sprintf("83b8f4f2-509f-382f-3c1e-%06x%06x", client+1, n)
}

// run lets all clients work while something is done, and then until each has heard
// what became of its last request.
func (c *crowd) run(meanwhile func()) {
	ctx, end := context.WithCancel(c.t.Context())
	var all sync.WaitGroup
	for i := range c.clients {
		all.Go(func() { c.work(ctx, i) })
	}
	for _, inv := range c.targets {
		all.Go(func() { c.news(ctx, inv) })
	}
	defer all.Wait()
	defer end()
	meanwhile()
}

// news has a host report again and again, so that whoever judged it judged what
// is old.
func (c *crowd) news(ctx context.Context, inv *inventory.Inventory) {
	asks := c.client(len(inv.Host.Name))
	defer asks.Close()
	for n := 1; ctx.Err() == nil; n++ {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		_ = report(ctx, asks, inv, fmt.Sprint(n)) // the next one will do
		cancel()
		time.Sleep(250 * time.Millisecond)
	}
}

// work takes room and gives it back, until ctx ends.
func (c *crowd) work(ctx context.Context, i int) {
	dice := rand.New(rand.NewPCG(7, uint64(i)))
	asks := c.client(i)
	defer asks.Close()
	for n := 0; ctx.Err() == nil; n++ {
		in := asked{target: c.targets[dice.IntN(len(c.targets))].Host.Name}
		for in.wants == [2]int{} {
			in.wants = [2]int{dice.IntN(owned + 1), dice.IntN(owned + 1)}
		}
		claim := c.take(asks, dice, i, fmt.Sprintf("client%d-%d", i, n), in)
		if claim == nil {
			continue
		}
		time.Sleep(upTo(dice, 50*time.Millisecond))
		c.give(asks, dice, i, claim, in.target)
	}
}

// take asks for room until it hears what came of it.
func (c *crowd) take(asks *client.Client, dice *rand.Rand, i int, key string, in asked) *api.Claim {
	req := &api.ClaimRequest{Target: in.target, Owner: fmt.Sprint("client", i)}
	for size, n := range in.wants {
		for k := range n {
			req.Devices = append(req.Devices, fmt.Sprintf("from%d/%s", i/50, deviceOf(i, size*owned+k)))
		}
	}
	var claim *api.Claim
	c.operation(i, in, func(ctx context.Context) (answered, error) {
		var err error
		claim, err = asks.CreateClaim(ctx, key, req)
		if errors.Is(err, &api.Problem{Code: api.NoRoom}) {
			return answered{full: true}, nil
		}
		if err != nil {
			return answered{}, err
		}
		return answered{place: placeOf(claim), revision: claim.Revision}, nil
	}, dice)
	if claim != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.took[claim.ID] = placeOf(claim)
	}
	return claim
}

// placeOf are the units that a claim holds of each parent.
func placeOf(claim *api.Claim) (u used) {
	for _, d := range claim.Devices {
		u[map[string]int{"p0": 0, "p1": 1}[d.Parent]] += sizes[d.Type.Name]
	}
	return u
}

// give gives room back, until it hears that it did.
func (c *crowd) give(asks *client.Client, dice *rand.Rand, i int, claim *api.Claim, target string) {
	c.operation(i, asked{target: target, give: true, has: placeOf(claim)}, func(ctx context.Context) (answered, error) {
		given, err := asks.Release(ctx, claim.ID)
		if err != nil {
			return answered{}, err
		}
		return answered{revision: given.Revision}, nil
	}, dice)
}

// operation sends a request until there is an answer, and puts it on record as
// one that began with the first time and ended with the last.
func (c *crowd) operation(i int, in asked, ask func(context.Context) (answered, error), dice *rand.Rand) {
	call := time.Since(c.began)
	for tries := 0; ; tries++ {
		most := 8 * time.Second
		if dice.IntN(20) == 0 {
			most = upTo(dice, 30*time.Millisecond) // and gives up while it is carried out
		}
		ctx, cancel := context.WithTimeout(context.Background(), most)
		out, err := ask(ctx)
		cancel()
		end := time.Since(c.began)
		if err == nil {
			c.again.Add(int64(tries))
			c.mu.Lock()
			c.longest = max(c.longest, end-call)
			c.history = append(c.history, porcupine.Operation{ClientId: i, Input: in, Output: out, Call: call.Nanoseconds(), Return: end.Nanoseconds()})
			c.mu.Unlock()
			return
		}
		refused, isRefusal := errors.AsType[*api.Problem](err)
		final := isRefusal && refused.Code != api.Unavailable
		if final || end-call > patience {
			c.mu.Lock()
			c.mistakes = append(c.mistakes, fmt.Errorf("at %v: %+v after %v and %d tries: %w", call, in, end-call, tries+1, err))
			c.mu.Unlock()
			return
		}
		time.Sleep(upTo(dice, 20*time.Millisecond))
	}
}

// upTo is some time shorter than this one.
func upTo(dice *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(dice.Int64N(int64(d)))
}
