// SPDX-License-Identifier: Apache-2.0

package hosts_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kindred/api"
)

// point is when a cable is cut, in the life of a migration.
type point string

const (
	claiming   point = "before it is claimed"
	prepared   point = "prepared"
	handedOver point = "handed over"
	moved      point = "the guest has moved"
	completed  point = "the VM manager has said so"
	giving     point = "the guest is to stay"
	aborted    point = "the VM manager has said that it stays"
)

// cut is one case.
type cut struct {
	who  string // source, target, both; manager
	at   point
	how  how
	long time.Duration // 0: for ever
}

func (c cut) String() string {
	long := "for ever"
	if c.long > 0 {
		long = "for " + c.long.String()
	}
	return fmt.Sprintf("%s, %s: %s %s", c.at, c.who, c.how, long)
}

// around are just under and just over.
func around(d time.Duration) []time.Duration {
	return []time.Duration{d - 200*time.Millisecond, d + 200*time.Millisecond}
}

// cuts are all cases: between each pair, at each point, in each way, for a moment,
// around each time that an agent, a server or a client waits for another, around
// the claim's deadline and well beyond it, and for ever.
func cuts() (all []cut) {
	times := []time.Duration{100 * time.Millisecond}
	for _, d := range []time.Duration{
		time.Second,      // an agent's first try again
		10 * time.Second, // how often an agent is heard, and a stream says that it is there
		20 * time.Second, // a request of the VM manager's
		30 * time.Second, // a request of an agent's, its last try again, and what a server waits for a reader
		silentAfter,      // a host is silent, and so is a stream
		claimFor,
	} {
		times = append(times, around(d)...)
	}
	times = append(times, claimFor+2*time.Minute, 0)
	for _, at := range []point{claiming, prepared, handedOver, moved, completed, giving, aborted} {
		for _, who := range []string{"source", "target", "both", "manager"} {
			for _, h := range []how{silent, answers, reset, forgotten} {
				for _, long := range times {
					all = append(all, cut{who, at, h, long})
				}
			}
		}
	}
	return all
}

// TestCuts cuts cables, and afterwards each migration is over, each device is
// there once, where its guest runs, and no room is held. Each 41st case is
// tried; KINDRED_CUTS=1 tries all.
func TestCuts(t *testing.T) {
	if testing.Short() {
		t.Skip("it is many migrations")
	}
	warm(t)
	var mu sync.Mutex
	ends := make(map[string]int)
	n := 0
	for i, c := range cuts() {
		if os.Getenv("KINDRED_CUTS") == "" && i%41 != 0 {
			continue
		}
		n++
		synctest.Test(t, func(t *testing.T) {
			q := newQuick(t, "from:gen8", "to:gen9")
			defer q.end()
			end, err := q.through(c)
			if err != nil {
				t.Errorf("%v: %v", c, err)
			}
			mu.Lock()
			ends[end]++
			mu.Unlock()
		})
	}
	t.Logf("%d cuts: %v", n, ends)
}

// through carries one migration with its cut, and says how it ended.
func (q *quick) through(c cut) (end string, err error) {
	ids := q.guest("vm", "from", 2)
	var cables []*cable
	for _, who := range map[string][]string{"source": {"from"}, "target": {"to"}, "both": {"from", "to"}, "manager": {"manager"}}[c.who] {
		cables = append(cables, q.cables[who])
	}
	is := func(now point) {
		if now != c.at {
			return
		}
		for _, one := range cables {
			one.sever(c.how)
			if c.long > 0 {
				time.AfterFunc(c.long, one.mend)
			}
		}
	}
	id, err := q.manage(ids, map[bool]story{false: completes, true: gives}[c.at == giving || c.at == aborted], is)
	if err != nil || id == "" {
		return "refused", err
	}
	if m := q.over(id); m != nil {
		return string(m.State), q.settled(m, "vm")
	}
	if c.long > 0 || c.who == "manager" {
		return "", errors.New("it does not end")
	}
	// It waits for a host that never comes back, until somebody says so. Meanwhile
	// the guest goes on.
	if err := q.vms.Work("vm"); err != nil {
		return "", fmt.Errorf("the guest does not work on: %w", err)
	}
	var lost []string
	for name, one := range q.cables {
		if slices.Contains(cables, one) {
			lost = append(lost, name)
			if err := q.serves().Lost(q.t.Context(), name); err != nil {
				return "", err
			}
		}
	}
	m := q.over(id)
	if m == nil {
		return "", fmt.Errorf("%q are lost, and it does not end", lost)
	}
	return string(m.State) + ", a host is lost", q.settled(m, "vm", lost...)
}

// over waits until a migration is over; nil: it is not after an hour.
func (q *quick) over(id string) *api.Migration {
	for range 3600 {
		if m, err := q.serves().Migration(q.t.Context(), id); err == nil && m.State.Over() {
			return m
		}
		time.Sleep(time.Second)
	}
	return nil
}

// story is how the VM manager wants it to end.
type story string

const (
	completes story = "completed"     // the guest moves
	gives     story = "given up"      // after it was handed over
	early     story = "given up soon" // when it is prepared
)

// manage is the VM manager's part: it has patience, moves the guest once it has
// heard that it may, and then says so. The id is empty when it never heard of a
// migration.
func (q *quick) manage(ids []string, how story, is func(point)) (id string, err error) {
	const patience = 2 * time.Minute
	is(claiming)
	m, err := q.tell(patience, func(ctx context.Context) (*api.Migration, error) {
		return q.client.CreateMigration(ctx, "key", &api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: ids, Target: "to", Owner: "vm", TTL: api.Duration(claimFor)}})
	})
	if err != nil {
		// A request that was given up may be carried out all the same, later.
		time.Sleep(claimFor)
		for _, one := range q.serves().Migrations("", 0, true).Migrations {
			return one.ID, nil
		}
		return "", q.nothing(ids)
	}
	id = m.ID
	for m.State == api.Planned || m.State == api.Claimed {
		time.Sleep(time.Second)
		last, err := q.tell(patience, func(ctx context.Context) (*api.Migration, error) { return q.client.Migration(ctx, id) })
		if err != nil {
			return id, nil // it gives up
		}
		m = last
	}
	is(prepared)
	if how == early {
		_, _ = q.tell(patience, func(ctx context.Context) (*api.Migration, error) { return q.client.Abort(ctx, id, &api.Abort{}) })
		return id, nil
	}
	if m, err = q.tell(patience, func(ctx context.Context) (*api.Migration, error) { return q.client.HandOver(ctx, id) }); err != nil {
		return id, nil
	}
	is(handedOver)
	names := make(map[string]string)
	for _, d := range m.Devices {
		names[d.Source] = d.Target
	}
	if how == gives {
		is(giving)
		_, _ = q.tell(patience, func(ctx context.Context) (*api.Migration, error) { return q.client.Abort(ctx, id, &api.Abort{}) })
		is(aborted)
		return id, nil
	}
	if _, err := q.vms.Move(q.t.Context(), "vm", "to", names); err != nil {
		// The target was taken back: then the guest is where it was.
		_, _ = q.tell(patience, func(ctx context.Context) (*api.Migration, error) {
			return q.client.Abort(ctx, id, &api.Abort{Reason: err.Error()})
		})
		return id, nil
	}
	is(moved)
	_, _ = q.tell(patience, func(ctx context.Context) (*api.Migration, error) { return q.client.Complete(ctx, id) })
	is(completed)
	return id, nil
}

// nothing: no migration was made, and all is as it was.
func (q *quick) nothing(ids []string) error {
	if got := q.devices("from"); len(got) != len(ids) || len(q.devices("to")) != 0 {
		return fmt.Errorf("refused, and from has %q, to %q", got, q.devices("to"))
	}
	return nil
}
