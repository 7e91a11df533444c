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

// cutOff is in the error of what this store did, or will never do.
const cutOff = "cut off here"

func (f *flaky) commit(do func() error) error {
	f.mu.Lock()
	n := f.rand.IntN(60)
	f.mu.Unlock()
	switch n {
	case 0:
		return fmt.Errorf("%w: %s, before", store.ErrUncertain, cutOff)
	case 1:
		do()
		return fmt.Errorf("%w: %s, after", store.ErrUncertain, cutOff)
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

// asked and outcome are one operation on the pool of a host.
type asked struct {
	release bool
	id      string
	units   int
}

// outcome is what came of it: where a claim was made or ended, at which revision
// of the store, and the how manieth that is of those that are known, from 1.
type outcome struct {
	answered
	revision int64
	place    int
}

// inOrder numbers what changed something. A release that nobody heard of is that
// of the revision which a later answer has.
func inOrder(history []porcupine.Operation) []porcupine.Operation {
	ended := make(map[string]int64)
	var revisions []int64
	for _, op := range history {
		if out := op.Output.(outcome); out.revision > 0 {
			revisions = append(revisions, out.revision)
			if in := op.Input.(asked); in.release {
				ended[in.id] = out.revision
			}
		}
	}
	slices.Sort(revisions)
	revisions = slices.Compact(revisions)
	var list []porcupine.Operation
	for _, op := range history {
		in, out := op.Input.(asked), op.Output.(outcome)
		if in.release && (out.answered == unheard || out.answered == pending) {
			out.revision = ended[in.id]
		}
		if n, known := slices.BinarySearch(revisions, out.revision); known {
			out.place = n + 1
		}
		op.Output = out
		list = append(list, op)
	}
	return list
}

type answered string

const (
	took    answered = "took"
	gave    answered = "gave"
	full    answered = "full"
	nothing answered = "nothing" // there was no such claim
	unheard answered = "unheard" // it may have happened, or not
	pending answered = "pending" // it may have happened, or will, or never
)

// pool is what claims on one host have to look like to everybody: a number of
// units, taken and given one operation after the other, in the order of the
// store's revisions. Without that there are too many orders to look for one.
func pool(size int) porcupine.Model {
	type state struct {
		open  string // claims as id=units, sorted, in one text
		place int    // of the last change
	}
	split := func(s state) (open map[string]int, units int) {
		open = make(map[string]int)
		for _, one := range strings.Fields(s.open) {
			id, n := "", 0
			fmt.Sscanf(strings.Replace(one, "=", " ", 1), "%s %d", &id, &n)
			open[id] = n
			units += n
		}
		return open, units
	}
	join := func(open map[string]int, place int) state {
		var list []string
		for _, id := range slices.Sorted(maps.Keys(open)) {
			list = append(list, fmt.Sprintf("%s=%d", id, open[id]))
		}
		return state{strings.Join(list, " "), place}
	}
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{state{}} },
		Step: func(s, in, out any) []any {
			open, units := split(s.(state))
			i, o := in.(asked), out.(outcome)
			at := s.(state).place
			_, is := open[i.id]
			var next []any
			maybe := o.answered == unheard || o.answered == pending
			if maybe {
				next = append(next, s)
			}
			turn := o.place == at+1 || maybe && o.place == 0
			switch {
			case i.release && is && turn && (o.answered == gave || maybe):
				delete(open, i.id)
				next = append(next, join(open, max(at, o.place)))
			case i.release && !is && (o.answered == gave && o.place <= at || o.answered == nothing):
				next = append(next, s) // given before
			case i.release:
			case !is && turn && units+i.units <= size && (o.answered == took || maybe):
				open[i.id] = i.units
				next = append(next, join(open, max(at, o.place)))
			case o.answered == nothing, o.answered == full && units+i.units > size:
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
	revision := func(out answered, at int64) int64 {
		if out == took {
			return at
		}
		return 0
	}
	take := func(id string, from, to int64, out answered) porcupine.Operation {
		return porcupine.Operation{Input: asked{id: id, units: 2}, Output: outcome{answered: out, revision: revision(out, to)}, Call: from, Return: to}
	}
	give := func(id string, from, to int64) porcupine.Operation {
		return porcupine.Operation{Input: asked{release: true, id: id}, Output: outcome{answered: gave, revision: to}, Call: from, Return: to}
	}
	at := func(revision int64, op porcupine.Operation) porcupine.Operation {
		op.Output = outcome{answered: op.Output.(outcome).answered, revision: revision}
		return op
	}
	forgot := func(op porcupine.Operation) porcupine.Operation {
		op.Output = outcome{answered: unheard}
		return op
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
		{[]porcupine.Operation{take("a", 1, 9, took), at(3, give("a", 2, 9)), at(4, take("b", 3, 9, took))}, false}, // in another order than the store's
		{[]porcupine.Operation{at(2, take("a", 1, 9, took)), at(3, give("a", 2, 9)), at(4, take("b", 3, 9, took))}, true},
		{[]porcupine.Operation{take("a", 1, 2, took), at(4, give("a", 3, 4)), at(4, give("a", 5, 6))}, true}, // given before
		{[]porcupine.Operation{take("a", 1, 2, took), forgot(give("a", 3, 4)), at(4, give("a", 5, 6)), take("b", 5, 6, took)}, true},
		{[]porcupine.Operation{take("a", 1, 2, took), at(7, take("b", 3, 8, took)), forgot(give("a", 4, 9)), at(8, give("a", 9, 10))}, false},
	} {
		if got := porcupine.CheckOperations(pool(3), inOrder(c.ops)); got != c.want {
			t.Errorf("%v: %v", c.ops, got)
		}
	}
}

// TestContention: many clients, three servers, one store, one host's room; now
// and then the store does not say whether it wrote. What all of them saw could
// have been seen one operation after the other, and the room was never overdrawn.
//
// Whether nobody found the room full, and how long it takes to find an order, is a
// matter of luck: it is tried again then.
func TestContention(t *testing.T) {
	const units = 5
	for n := range uint64(5) {
		history := contend(t, units, n)
		counts := make(map[answered]int)
		for _, op := range history {
			counts[op.Output.(outcome).answered]++
		}
		begin := time.Now()
		got := porcupine.CheckOperationsTimeout(pool(units), inOrder(history), 20*time.Second)
		t.Logf("%d operations: %v; linearizable: %s, after %v", len(history), counts, got, time.Since(begin).Round(time.Millisecond))
		if got == porcupine.Illegal {
			t.Error("not linearizable")
		}
		if got == porcupine.Ok && counts[took] > 0 && counts[full] > 0 && counts[unheard] > 0 || t.Failed() {
			return
		}
	}
	t.Error("there was no contention, or too much to be judged")
}

// contend is what clients saw of one host's room.
func contend(t *testing.T, units int, seed uint64) (history []porcupine.Operation) {
	const clients, rounds = 24, 5
	source := newMachine("a", 100)
	for i := range clients {
		source.devices = append(source.devices, &made{id: fmt.Sprintf("83b8f4f2-509f-382f-3c1e-e6bfe0fb%04d", i), typ: []string{"small", "large"}[i%2]})
	}
	r := newRig(t, source, newMachine("b", units))
	var servers []*running
	for i := range 3 {
		s := r.start(&flaky{Store: r.open(), rand: rand.New(rand.NewPCG(1+2*seed, uint64(i)))})
		servers = append(servers, s)
	}
	for _, name := range []string{"a", "b"} { // until the store listens
		for r.machines[name].report(t.Context(), servers[0].Server) != nil {
		}
	}
	for _, s := range servers {
		s.view.wait(t.Context(), servers[0].view.current(), time.Minute)
	}
	begin := time.Now()
	var mu sync.Mutex
	do := func(client int, in asked, ask func() (outcome, error)) answered {
		call := time.Since(begin)
		out, err := ask()
		if err != nil {
			t.Error(err)
		}
		end := time.Since(begin)
		if out.answered == pending {
			end = time.Hour // it may happen at any time from now on
		}
		mu.Lock()
		defer mu.Unlock()
		history = append(history, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: call.Nanoseconds(), Return: end.Nanoseconds()})
		return out.answered
	}
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			dice := rand.New(rand.NewPCG(2+2*seed, uint64(i)))
			name, by := source.devices[i].id, fmt.Sprint("client", i)
			any := func() *Server { return servers[dice.IntN(len(servers))].Server }
			for n := range rounds {
				key := fmt.Sprint(n)
				id := named(by, key)
				out := do(i, asked{id: id, units: sizes[source.devices[i].typ]}, func() (outcome, error) {
					c, err := any().CreateClaim(t.Context(), by, key, api.ClaimRequest{Devices: []string{name}, Target: "b"})
					return heard(c, err, took, api.NoRoom, full)
				})
				for tries := 0; out != full && tries < 20; tries++ {
					if answer := do(i, asked{release: true, id: id}, func() (outcome, error) {
						c, err := any().Release(t.Context(), id, 0)
						return heard(c, err, gave, api.NotFound, nothing)
					}); answer != unheard && answer != pending {
						break
					}
				}
			}
		})
	}
	all.Wait()
	return history
}

func heard(c *api.Claim, err error, ok answered, code api.Code, no answered) (outcome, error) {
	switch {
	case err == nil:
		return outcome{answered: ok, revision: c.Revision}, nil
	case errors.Is(err, &api.Problem{Code: code}):
		return outcome{answered: no}, nil
	case errors.Is(err, &api.Problem{Code: api.Unavailable}), errors.Is(err, store.ErrUncertain):
		if strings.Contains(err.Error(), cutOff) {
			return outcome{answered: unheard}, nil
		}
		return outcome{answered: pending}, nil
	case errors.Is(err, &api.Problem{Code: api.DeviceClaimed}):
		return outcome{answered: nothing}, nil // by a claim of the same client that it did not hear of
	}
	return outcome{answered: pending}, err
}

// TestSameRequest: the same request, sent to a server that has not seen yet what
// it made at another one, is answered with that.
func TestSameRequest(t *testing.T) {
	r := newRig(t, newMachine("a", 4, &made{id: dev1, typ: "small"}), newMachine("b", 4))
	kept := &slow{Store: r.open()}
	one, late := r.start(r.open()), r.start(kept)
	r.report(one, "a", "b")
	late.view.wait(t.Context(), one.view.current(), time.Minute)
	release := kept.hold()
	req := api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: []string{dev1}, Target: "b"}}
	m, err := one.CreateMigration(t.Context(), "test", "key", req)
	if err != nil {
		t.Fatal(err)
	}
	if late.view.current() >= m.Revision {
		t.Fatal("the other server is not late")
	}
	release()
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
	kept := &slow{Store: r.open()}
	one, late := r.start(r.open()), r.start(kept)
	r.report(one, "a", "b")
	late.view.wait(t.Context(), one.view.current(), time.Minute)
	release := kept.hold()
	m, err := one.CreateMigration(t.Context(), "test", "", api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: []string{dev1}, Target: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	release()
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
	kept := &slow{Store: r.open()}
	one, late := r.start(r.open()), r.start(kept)
	for _, target := range []string{"b", ""} {
		release := kept.hold()
		r.report(one, "a", "b")
		if late.view.current() >= one.view.current() {
			t.Error("the other server is not late")
		}
		release()
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

// slow tells what happened a while later, and while it is held nothing.
type slow struct {
	Store
	mu   sync.Mutex
	held chan struct{} // closed when it is not held any more
}

// hold keeps back what happens from now on, until the function is called that it
// returns.
func (s *slow) hold() (release func()) {
	held := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = held
	return func() { close(held) }
}

func (s *slow) Watch(ctx context.Context, begin string, after int64, yield func([]store.Record, int64) error) error {
	return s.Store.Watch(ctx, begin, after, func(changes []store.Record, revision int64) error {
		s.mu.Lock()
		held := s.held
		s.mu.Unlock()
		if held != nil {
			select {
			case <-held:
			case <-ctx.Done():
			}
		}
		sleep(ctx, 250*time.Millisecond)
		return yield(changes, revision)
	})
}
