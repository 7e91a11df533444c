// SPDX-License-Identifier: Apache-2.0

package hosts_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"kindred/api"
	"kindred/fleet"
	"kindred/host/change"
	"kindred/inventory"
	"kindred/sim"
	"kindred/sim/hosts"
)

// drained is a rack full of guests, the rest of the fleet, and the VM manager
// that carries what the drain prepares.
type drained struct {
	*site
	rack   []string
	guests map[string][]string // with the labels of each
	id     string
	atOnce int
}

// TestDrainFleet drains a rack of a fleet with agents, while the server is
// killed again and again, hosts die and come back, and others take the room. At
// each moment no more moves are under way than are allowed, and guests that are
// kept apart are; in the end each guest runs elsewhere, or is listed with why not.
func TestDrainFleet(t *testing.T) {
	var names []string
	d := &drained{guests: make(map[string][]string), atOnce: 4}
	for n := range 5 {
		d.rack = append(d.rack, fmt.Sprint("rack-", n))
		names = append(names, "gen8:"+d.rack[n])
	}
	for build, count := range map[string]int{"gen8": 6, "gen9": 9, "rel20": 2, "poor": 2} {
		for n := range count {
			names = append(names, fmt.Sprintf("%s:%s-%d", build, build, n))
		}
	}
	d.site = newSiteWith(t, 5*time.Second, names...)
	d.reported()
	order := &api.DrainOrder{TTL: api.Duration(6 * time.Second), DrainRequest: api.DrainRequest{Hosts: []string{"rack-*"}, AtOnce: d.atOnce, Policy: fleet.Spread}}
	for n, host := range d.rack {
		for k := range 3 {
			name := fmt.Sprintf("vm-%d-%d", n, k)
			o := fleet.Owner{Name: name}
			if k == 0 {
				o.Apart = []string{"db"}
			}
			for _, id := range d.guest(name, host, 1+(n+k)%2) {
				o.Devices = append(o.Devices, host+"/"+id)
			}
			order.Owners = append(order.Owners, o)
			d.guests[name] = o.Apart
		}
	}
	began, err := d.client.StartDrain(t.Context(), "the rack", order)
	if err != nil {
		t.Fatal(err)
	}
	d.id = began.ID
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { d.carry(ctx) })
	all.Go(func() { d.watch(ctx) })
	d.disturb()
	var last *api.DrainDetail
	d.untilLong("the drain is over", func() bool {
		last, err = d.client.Drain(t.Context(), d.id, true)
		return err == nil && last.State.Over()
	})
	cancel()
	all.Wait()
	d.settled(last)
}

func (d *drained) untilLong(what string, done func() bool) {
	d.t.Helper()
	for end := time.Now().Add(3 * time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			detail, err := d.client.Drain(d.t.Context(), d.id, true)
			d.t.Fatalf("this did not come in three minutes: %s: %+v, %v", what, detail, err)
		}
	}
}

// carry is the VM manager: it moves what is prepared, each once.
func (d *drained) carry(ctx context.Context) {
	var moves sync.WaitGroup
	defer moves.Wait()
	taken := make(map[string]bool)
	for ctx.Err() == nil {
		list, err := d.client.Migrations(ctx, false)
		for i := range list {
			m := &list[i]
			if err != nil || m.Drain != d.id || m.State != api.Prepared || taken[m.ID] {
				continue
			}
			taken[m.ID] = true
			moves.Go(func() {
				_, _, err := d.vms.Carry(ctx, steady{d.client}, m.ID)
				if err != nil && ctx.Err() == nil {
					d.log.Info("a guest was not moved", "guest", m.Owner, "to", m.Target, "error", err)
				}
			})
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// watch looks at what is to hold at each moment.
func (d *drained) watch(ctx context.Context) {
	for ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
		before := d.where()
		list, err := d.client.Migrations(ctx, false)
		if err != nil || !maps.Equal(before, d.where()) {
			continue // it was not one moment
		}
		moving := 0
		on := make(map[string]map[string]bool) // host -> guests that are kept apart
		put := func(host, guest string) {
			if on[host] == nil {
				on[host] = make(map[string]bool)
			}
			on[host][guest] = true
			if len(on[host]) > 1 {
				d.t.Errorf("kept apart, and on %s or on the way there: %v", host, slices.Sorted(maps.Keys(on[host])))
			}
		}
		for name, labels := range d.guests {
			if len(labels) > 0 {
				put(before[name], name)
			}
		}
		for _, m := range list {
			if m.Drain != d.id {
				continue
			}
			switch m.State {
			case api.Planned, api.Claimed, api.Prepared, api.HandedOver:
				moving++
			}
			if len(d.guests[m.Owner]) > 0 {
				put(m.Target, m.Owner)
			}
			if slices.Contains(d.rack, m.Target) {
				d.t.Errorf("%s is moved to %s, which is drained", m.Owner, m.Target)
			}
		}
		if moving > d.atOnce {
			d.t.Errorf("%d moves are under way", moving)
		}
	}
}

// where is the host of each guest.
func (d *drained) where() map[string]string {
	at := make(map[string]string)
	for name := range d.guests {
		at[name], _, _ = d.vms.On(name)
	}
	return at
}

// disturb kills and fills.
func (d *drained) disturb() {
	pause := func() { time.Sleep(150 * time.Millisecond) }
	pause()
	d.again("gen9-0", 9) // its agent is killed at its ninth step, and stays dead
	d.again("gen9-1", 12)
	pause()
	d.serve()
	for n := range 6 { // somebody fills a host
		_, err := d.hosts["gen8-0"].Start(d.t.Context(), change.Request{Kind: inventory.Mdev, ID: sim.UUID("filler", n), Parent: fmt.Sprint("sim", n%2), Type: "ksim-V4"})
		if err != nil {
			d.log.Info("no more room to fill", "error", err)
		}
	}
	pause()
	d.agents["rack-4"].stop() // a host of the rack is no more
	d.serve()
	pause()
	if err := d.hosts["gen8-1"].Allow("manage: []\n"); err != nil {
		d.t.Error(err)
	}
	d.serve()
	pause()
	d.again("gen9-1", 0)
	pause()
	d.serve()
}

// settled is what holds in the end.
func (d *drained) settled(last *api.DrainDetail) {
	stays := make(map[string]*api.DrainOwner)
	moved := 0
	for i := range last.Owners {
		if o := &last.Owners[i]; o.State == api.OwnerStays {
			stays[o.Owner] = o
		}
	}
	for name, host := range d.where() {
		o := stays[name]
		switch left := slices.Contains(d.rack, host); {
		case left && (o == nil || o.Code == "" || o.Reason == ""):
			d.t.Errorf("%s is on %s, and nothing says why: %+v", name, host, o)
		case !left && o != nil:
			d.t.Errorf("%s is on %s, and is said to stay on %s: %s", name, host, o.Host, o.Reason)
		case !left:
			moved++
		default:
			d.t.Logf("%s stays on %s: %s: %s", name, host, o.Code, o.Reason)
		}
		if err := d.vms.Work(name); err != nil {
			d.t.Errorf("%s works on: %v", name, err)
		}
	}
	if moved == 0 {
		d.t.Error("no guest was moved")
	}
	d.t.Logf("%d of %d guests were moved", moved, len(d.guests))
}

// steady asks again while the server is away.
type steady struct{ fleet hosts.Fleet }

func steadily(ctx context.Context, ask func() (*api.Migration, error)) (*api.Migration, error) {
	for {
		m, err := ask()
		p, refused := errors.AsType[*api.Problem](err)
		if err == nil || ctx.Err() != nil || refused && p.Code != api.Unavailable {
			return m, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s steady) Migration(ctx context.Context, id string) (*api.Migration, error) {
	return steadily(ctx, func() (*api.Migration, error) { return s.fleet.Migration(ctx, id) })
}

func (s steady) HandOver(ctx context.Context, id string) (*api.Migration, error) {
	return steadily(ctx, func() (*api.Migration, error) { return s.fleet.HandOver(ctx, id) })
}

func (s steady) Complete(ctx context.Context, id string) (*api.Migration, error) {
	return steadily(ctx, func() (*api.Migration, error) { return s.fleet.Complete(ctx, id) })
}

func (s steady) Abort(ctx context.Context, id string, a *api.Abort) (*api.Migration, error) {
	return steadily(ctx, func() (*api.Migration, error) { return s.fleet.Abort(ctx, id, a) })
}
