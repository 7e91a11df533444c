// SPDX-License-Identifier: Apache-2.0

package hosts_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kindred/api"
	"kindred/server/store"
	"kindred/server/store/memory"
)

// backup is the store as it is now.
func (q *quick) backup() (records []store.Record) {
	q.t.Helper()
	_, err := q.kept.Read(q.t.Context(), "", func(r store.Record) error {
		if !strings.HasPrefix(r.Key, store.Replica+"/") {
			records = append(records, r)
		}
		return nil
	})
	if err != nil {
		q.t.Fatal(err)
	}
	return records
}

// restore has a server go on from a backup, far above every revision there was.
func (q *quick) restore(records []store.Record) {
	q.t.Helper()
	q.server.stop()
	q.kept = memory.Restored(records, 1_000_000_000)
	q.serve()
}

// TestRestored: a server that was restored from before a migration went on learns
// so of the agents. It removes nothing for what it believes, carries on where what
// they have carried out leaves no doubt, and says what it cannot know.
func TestRestored(t *testing.T) {
	warm(t)
	for _, c := range []struct {
		name string
		at   point // when the backup was made
		how  story // and how the migration went on
		back bool  // the guest went back then, by another migration
		off  bool  // the guest is switched off before the restore
		// What somebody has to say, and how it ends then; or by itself.
		say  string
		want api.MigrationState
	}{
		{name: "completed", at: prepared, how: completes, want: api.Completed},
		{name: "completed, and off", at: prepared, how: completes, off: true, want: api.Completed},
		{name: "completed, handed over before", at: handedOver, how: completes, off: true, want: api.Completed},
		{name: "aborted", at: handedOver, how: gives, say: "abort", want: api.Aborted},
		{name: "aborted, and off", at: prepared, how: gives, off: true, say: "abort", want: api.Aborted},
		{name: "aborted soon", at: prepared, how: early, say: "abort", want: api.Aborted},
		{name: "gone there and back", at: prepared, how: completes, back: true, say: "complete", want: api.Completed},
		{name: "gone there and back, and off", at: handedOver, how: completes, back: true, off: true, say: "complete", want: api.Completed},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQuick(t, "from:gen8", "to:gen9")
				defer q.end()
				var kept []store.Record
				id, err := q.manage(q.guest("vm", "from", 2), c.how, func(p point) {
					if p == c.at {
						kept = q.backup()
					}
				})
				if err != nil || q.over(id) == nil {
					t.Fatal("it does not end: ", err)
				}
				if c.back {
					q.goBack()
				}
				if c.off {
					if err := q.vms.Stop("vm"); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Minute)
				before := fmt.Sprint(q.devices("from"), q.devices("to"))
				q.restore(kept)
				time.Sleep(claimFor + 10*time.Minute) // over its deadline
				m, err := q.serves().Migration(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				if c.say != "" {
					if m.Code != api.HostAhead || m.Ahead == nil || m.State.Over() || !strings.Contains(m.Reason, "restored") {
						t.Errorf("nobody is asked: %+v", m)
					}
					if _, err := q.client.HandOver(t.Context(), id); err == nil {
						t.Error("it was handed over")
					}
					if c.say == "complete" {
						_, err = q.client.Complete(t.Context(), id)
					} else {
						_, err = q.client.Abort(t.Context(), id, &api.Abort{})
					}
					if err != nil {
						t.Fatal(err)
					}
					if m = q.over(id); m == nil {
						t.Fatal("it does not end")
					}
				}
				if m.State != c.want || m.Ahead != nil {
					t.Errorf("it is %s: %s, %+v", m.State, m.Reason, m.Ahead)
				}
				time.Sleep(time.Minute)
				if after := fmt.Sprint(q.devices("from"), q.devices("to")); after != before {
					t.Errorf("the hosts had %s, and have %s", before, after)
				}
				if claims := q.serves().Claims("", 0, false).Claims; len(claims) > 0 {
					t.Errorf("room is held: %+v", claims)
				}
			})
		})
	}
}

// goBack moves the guest back where it was.
func (q *quick) goBack() {
	q.t.Helper()
	_, ids, err := q.vms.On("vm")
	if err != nil {
		q.t.Fatal(err)
	}
	q.until("the source can take them", func() bool {
		m, err := q.client.CreateMigration(q.t.Context(), "back", &api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: ids, Target: "from", Owner: "vm"}})
		return err == nil && m.State == api.Prepared
	})
	m := q.serves().Migrations("", 0, false).Migrations[0]
	if _, err := q.client.HandOver(q.t.Context(), m.ID); err != nil {
		q.t.Fatal(err)
	}
	names := make(map[string]string)
	for _, d := range m.Devices {
		names[d.Source] = d.Target
	}
	if _, err := q.vms.Move(q.t.Context(), "vm", "from", names); err != nil {
		q.t.Fatal(err)
	}
	if _, err := q.client.Complete(q.t.Context(), m.ID); err != nil {
		q.t.Fatal(err)
	}
	if over := q.over(m.ID); over == nil || over.State != api.Completed {
		q.t.Fatalf("%+v", over)
	}
}

// TestLeftover: devices that were made for a claim after the backup are nobody's
// in the restored server. They stay, and their host says so.
func TestLeftover(t *testing.T) {
	warm(t)
	synctest.Test(t, func(t *testing.T) {
		q := newQuick(t, "from:gen8", "to:gen9")
		defer q.end()
		ids := q.guest("vm", "from", 2)
		kept := q.backup()
		left := func() []string {
			h, err := q.serves().Host("to")
			if err != nil {
				return []string{err.Error()} // the server has just begun
			}
			return h.Leftover
		}
		_, err := q.client.CreateMigration(t.Context(), "key", &api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: ids, Target: "to", TTL: api.Duration(time.Hour)}})
		if err != nil {
			t.Fatal(err)
		}
		q.until("it is prepared", func() bool { return len(q.devices("to")) == 2 })
		time.Sleep(time.Minute)
		if got := left(); len(got) != 0 {
			t.Errorf("while their claim is known: %q", got)
		}
		q.restore(kept)
		q.until("the host says that they are left", func() bool { return slices.Equal(left(), q.devices("to")) })
		if got := q.devices("to"); len(got) != 2 {
			t.Errorf("to has %q", got)
		}
		for _, id := range q.devices("to") {
			if err := q.hosts["to"].Stop(context.Background(), id); err != nil {
				t.Fatal(err)
			}
		}
		q.until("nothing is left", func() bool { return len(left()) == 0 })
	})
}
