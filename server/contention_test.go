// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"kindred/api"
	"kindred/server/store"
)

// flaky is a store that now and then does not say whether it wrote.
type flaky struct {
	Store
	mu   sync.Mutex
	rand *rand.Rand
}

func (f *flaky) Commit(ctx context.Context, t store.Txn) (revision int64, ok bool, err error) {
	err = f.commit(func() error {
		revision, ok, err = f.Store.Commit(ctx, t)
		return err
	})
	return revision, ok && err == nil, err
}

func (f *flaky) CommitEach(ctx context.Context, list []store.Txn) (revision int64, ok []bool, err error) {
	err = f.commit(func() error {
		revision, ok, err = f.Store.CommitEach(ctx, list)
		return err
	})
	return revision, ok, err
}

func (f *flaky) commit(do func() error) error {
	f.mu.Lock()
	n := f.rand.IntN(60)
	f.mu.Unlock()
	switch n {
	case 0:
		return fmt.Errorf("%w: cut before", store.ErrUncertain)
	case 1:
		do()
		return fmt.Errorf("%w: cut after", store.ErrUncertain)
	}
	return do()
}

// Watch tells what happens late, as over a slow network: what a server judges by
// is mostly old.
func (f *flaky) Watch(ctx context.Context, begin string, after int64, yield func([]store.Record, int64) error) error {
	return f.Store.Watch(ctx, begin, after, func(changes []store.Record, revision int64) error {
		f.mu.Lock()
		n := f.rand.IntN(8)
		f.mu.Unlock()
		sleep(ctx, time.Duration(n)*time.Millisecond)
		return yield(changes, revision)
	})
}

// asked and answered are one operation on the pool of a host.
type asked struct {
	release bool
	id      string
	units   int
}

type answered string

const (
	took    answered = "took"
	gave    answered = "gave"
	full    answered = "full"
	nothing answered = "nothing" // there was no such claim
	unheard answered = "unheard" // it may have happened, or will, or never
)

// pool is what claims on one host have to look like to everybody: a number of
// units, taken and given one operation after the other.
func pool(size int) porcupine.Model {
	type state = string // open claims as id=units, sorted, in one text
	split := func(s state) (open map[string]int, units int) {
		open = make(map[string]int)
		for _, one := range strings.Fields(s) {
			id, n := "", 0
			fmt.Sscanf(strings.Replace(one, "=", " ", 1), "%s %d", &id, &n)
			open[id] = n
			units += n
		}
		return open, units
	}
	join := func(open map[string]int) state {
		var list []string
		for _, id := range slices.Sorted(maps.Keys(open)) {
			list = append(list, fmt.Sprintf("%s=%d", id, open[id]))
		}
		return strings.Join(list, " ")
	}
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{""} },
		Step: func(s, in, out any) []any {
			open, units := split(s.(state))
			i, o := in.(asked), out.(answered)
			_, is := open[i.id]
			var next []any
			if o == unheard {
				next = append(next, s)
			}
			switch {
			case i.release && is && (o == gave || o == unheard):
				delete(open, i.id)
				next = append(next, join(open))
			case i.release && !is && (o == gave || o == nothing):
				next = append(next, s) // given before, or never taken
			case i.release:
			case !is && units+i.units <= size && (o == took || o == unheard):
				open[i.id] = i.units
				next = append(next, join(open))
			case o == nothing, o == full && units+i.units > size:
				next = append(next, s)
			}
			return next
		},
		Equal: func(a, b any) bool { return a == b },
		DescribeOperation: func(in, out any) string {
			return fmt.Sprintf("%+v: %s", in, out)
		},
	}
	return m.ToModel()
}

// TestPoolModel: the model can say no.
func TestPoolModel(t *testing.T) {
	take := func(id string, from, to int64, out answered) porcupine.Operation {
		return porcupine.Operation{Input: asked{id: id, units: 2}, Output: out, Call: from, Return: to}
	}
	give := func(id string, from, to int64) porcupine.Operation {
		return porcupine.Operation{Input: asked{release: true, id: id}, Output: gave, Call: from, Return: to}
	}
	for _, c := range []struct {
		ops  []porcupine.Operation
		want bool
	}{
		{[]porcupine.Operation{take("a", 1, 2, took), take("b", 3, 4, took)}, false}, // both cannot be there
		{[]porcupine.Operation{take("a", 1, 2, took), take("b", 3, 4, full)}, true},
		{[]porcupine.Operation{take("a", 1, 2, took), give("a", 3, 4), take("b", 5, 6, full)}, false}, // there was room
		{[]porcupine.Operation{take("a", 1, 2, took), give("a", 3, 6), take("b", 4, 5, full)}, true},
		{[]porcupine.Operation{take("a", 1, 2, unheard), take("b", 3, 4, full)}, true},
	} {
		if got := porcupine.CheckOperations(pool(3), c.ops); got != c.want {
			t.Errorf("%v: %v", c.ops, got)
		}
	}
}

// TestContention: many clients, three servers, one store, one host's room; now
// and then the store does not say whether it wrote. What all of them saw could
// have been seen one operation after the other, and the room was never overdrawn.
func TestContention(t *testing.T) {
	const clients, rounds, units = 24, 5, 5
	source := newMachine("a", 100)
	for i := range clients {
		source.devices = append(source.devices, &made{id: fmt.Sprintf("83b8f4f2-509f-382f-3c1e-e6bfe0fb%04d", i), typ: []string{"small", "large"}[i%2]})
	}
	r := newRig(t, source, newMachine("b", units))
	var servers []*running
	for i := range 3 {
		s := r.start(&flaky{Store: r.open(), rand: rand.New(rand.NewPCG(1, uint64(i)))})
		servers = append(servers, s)
	}
	for _, name := range []string{"a", "b"} { // until the store listens
		for r.machines[name].report(t.Context(), servers[0].Server) != nil {
		}
	}
	for _, s := range servers {
		s.view.wait(t.Context(), servers[0].view.current(), time.Second)
	}
	begin := time.Now()
	var mu sync.Mutex
	var history []porcupine.Operation
	do := func(client int, in asked, ask func() (answered, error)) answered {
		call := time.Since(begin)
		out, err := ask()
		if err != nil {
			t.Error(err)
		}
		end := time.Since(begin)
		if out == unheard {
			end = time.Hour // it may happen at any time from now on
		}
		mu.Lock()
		defer mu.Unlock()
		history = append(history, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: call.Nanoseconds(), Return: end.Nanoseconds()})
		return out
	}
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			dice := rand.New(rand.NewPCG(2, uint64(i)))
			name, by := source.devices[i].id, fmt.Sprint("client", i)
			any := func() *Server { return servers[dice.IntN(len(servers))].Server }
			for n := range rounds {
				key := fmt.Sprint(n)
				id := named(by, key)
				out := do(i, asked{id: id, units: sizes[source.devices[i].typ]}, func() (answered, error) {
					_, err := any().CreateClaim(t.Context(), by, key, api.ClaimRequest{Devices: []string{name}, Target: "b"})
					return heard(err, took, api.NoRoom, full)
				})
				for tries := 0; out != full && tries < 20; tries++ {
					if do(i, asked{release: true, id: id}, func() (answered, error) {
						_, err := any().Release(t.Context(), id, 0)
						return heard(err, gave, api.NotFound, nothing)
					}) != unheard {
						break
					}
				}
			}
		})
	}
	all.Wait()
	counts := make(map[answered]int)
	for _, op := range history {
		counts[op.Output.(answered)]++
	}
	t.Logf("%d operations: %v", len(history), counts)
	if counts[took] == 0 || counts[full] == 0 || counts[unheard] == 0 {
		t.Errorf("there was no contention: %v", counts)
	}
	if got := porcupine.CheckOperationsTimeout(pool(units), history, 30*time.Second); got != porcupine.Ok {
		t.Errorf("not linearizable: %s", got)
	}
}

func heard(err error, ok answered, code api.Code, no answered) (answered, error) {
	switch {
	case err == nil:
		return ok, nil
	case errors.Is(err, &api.Problem{Code: code}):
		return no, nil
	case errors.Is(err, &api.Problem{Code: api.Unavailable}), errors.Is(err, store.ErrUncertain):
		return unheard, nil
	case errors.Is(err, &api.Problem{Code: api.DeviceClaimed}):
		return nothing, nil // by a claim of the same client that it did not hear of
	}
	return unheard, err
}

// TestSameRequest: the same request, sent to a server that has not seen yet what
// it made at another one, is answered with that.
func TestSameRequest(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "small"}), newMachine("b", 4))
	one, late := r.start(r.open()), r.start(&slow{Store: r.open()})
	r.report(one, "a", "b")
	late.view.wait(t.Context(), one.view.current(), 10*time.Second)
	req := api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: []string{dev1}, Target: "b"}}
	m, err := one.CreateMigration(t.Context(), "test", "key", req)
	if err != nil {
		t.Fatal(err)
	}
	if late.view.current() >= m.Revision {
		t.Fatal("the other server is not late")
	}
	again, err := late.CreateMigration(t.Context(), "test", "key", req)
	if err != nil || again.ID != m.ID {
		t.Errorf("%+v, %v", again, err)
	}
	_, err = one.Abort(t.Context(), m.ID, 0, api.Abort{})
	if err != nil {
		t.Fatal(err)
	}
	req.Owner = "another"
	_, err = late.CreateMigration(t.Context(), "test", "key", req)
	wantCode(t, err, api.KeyReused)
}

// TestReadThenList: a server that answered with a claim or a migration lists it
// so too, even when it hears of changes late.
func TestReadThenList(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "small"}), newMachine("b", 4))
	one, late := r.start(r.open()), r.start(&slow{Store: r.open()})
	r.report(one, "a", "b")
	late.view.wait(t.Context(), one.view.current(), 10*time.Second)
	m, err := one.CreateMigration(t.Context(), "test", "", api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: []string{dev1}, Target: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := late.Migration(t.Context(), m.ID); err != nil || got.State != m.State || len(late.Migrations("", 0, false).Migrations) != 1 {
		t.Errorf("%+v, %v, listed: %+v", got, err, late.Migrations("", 0, true))
	}
	if _, err := one.Abort(t.Context(), m.ID, 0, api.Abort{}); err != nil {
		t.Fatal(err)
	}
	c, err := one.Claim(t.Context(), m.Claim)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := late.Claim(t.Context(), m.Claim); err != nil || got.Revision != c.Revision {
		t.Errorf("%+v, %v, it is %+v", got, err, c)
	}
	for _, listed := range late.Claims("", 0, true).Claims {
		if listed.Revision < c.Revision {
			t.Errorf("listed as it was: %+v", listed)
		}
	}
}

// TestLateRefusal: a server that has not seen yet what another one was told refuses
// nothing for that.
func TestLateRefusal(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "small"}), newMachine("b", 4))
	one, late := r.start(r.open()), r.start(&slow{Store: r.open()})
	for _, target := range []string{"b", ""} {
		r.report(one, "a", "b")
		if late.view.current() >= one.view.current() {
			t.Error("the other server is not late")
		}
		c, err := late.CreateClaim(t.Context(), "test", "", api.ClaimRequest{Devices: []string{dev1}, Target: target})
		if err != nil || c.Target != "b" {
			t.Fatalf("target %q: %+v, %v", target, c, err)
		}
		if _, err := one.Release(t.Context(), c.ID, 0); err != nil {
			t.Fatal(err)
		}
		r.machines["b"].devices = append(r.machines["b"].devices, &made{id: dev2, typ: "small"}) // news
	}
	// And what is not there is not there.
	if _, err := one.Release(t.Context(), "none", 0); !errors.Is(err, &api.Problem{Code: api.NotFound}) {
		t.Error(err)
	}
	_, err := late.CreateClaim(t.Context(), "test", "", api.ClaimRequest{Devices: []string{"83b8f4f2-509f-382f-3c1e-e6bfe0fb9999"}, Target: "b"})
	wantCode(t, err, api.NotFound)
	_, err = late.CreateClaim(t.Context(), "test", "", api.ClaimRequest{Devices: []string{dev1}, Target: "nowhere"})
	wantCode(t, err, api.NotFound)
}

// slow tells what happened a while later.
type slow struct{ Store }

func (s *slow) Watch(ctx context.Context, begin string, after int64, yield func([]store.Record, int64) error) error {
	return s.Store.Watch(ctx, begin, after, func(changes []store.Record, revision int64) error {
		sleep(ctx, 250*time.Millisecond)
		return yield(changes, revision)
	})
}
