// SPDX-License-Identifier: Apache-2.0

package hosts_test

import (
	"testing"
	"testing/synctest"

	"kindred/api"
)

// ends are how each story has to end, whoever is killed: the VM manager has
// patience.
var ends = map[story]api.MigrationState{completes: api.Completed, gives: api.Aborted, early: api.Aborted}

// TestKilledAnywhere kills the target's agent, the source's agent and the server,
// each at each step that it makes for a migration, the server before and after
// each of its transactions, and starts it again. With the race detector some of the
// steps do. The migration ends as it was to,
// with each device once, where its guest runs, and no room held.
func TestKilledAnywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("it is many migrations")
	}
	warm(t)
	for _, how := range []story{completes, gives, early} {
		for _, victim := range []string{"the target's agent", "the source's agent", "the server, before", "the server, after"} {
			t.Run(string(how)+", "+victim, func(t *testing.T) {
				k := 0
				for died := true; died && !t.Failed(); k += everyStep {
					synctest.Test(t, func(t *testing.T) { died = killedAt(t, how, victim, k) })
				}
				if k -= everyStep; k < 4 {
					t.Errorf("there were %d steps only", k)
				}
				t.Logf("killed within %d steps, at each %d", k, everyStep)
			})
		}
	}
}

// killedAt tells a story in which somebody is killed at a step, and reports
// whether it came to that.
func killedAt(t *testing.T, how story, victim string, k int) (died bool) {
	q := newQuick(t, "from:gen8", "to:gen9")
	defer q.end()
	ids := q.guest("vm", "from", 2)
	var dead func() bool
	agent := map[string]string{"the target's agent": "to", "the source's agent": "from"}[victim]
	if agent != "" {
		q.run(agent, k+1)
		dead = q.agents[agent].Dead
	} else {
		q.server.dieAt(k, victim == "the server, after")
		dead = q.server.hasDied
	}
	id, err := q.manage(ids, how, func(point) {})
	if err != nil || id == "" {
		t.Errorf("step %d: no migration: %v", k, err)
		return false
	}
	m := q.over(id)
	if m == nil {
		t.Errorf("step %d: it does not end", k)
		return false
	}
	if m.State != ends[how] {
		t.Errorf("step %d: it is %s: %s", k, m.State, m.Reason)
	}
	if err := q.settled(m, "vm"); err != nil {
		t.Errorf("step %d: %v", k, err)
	}
	return dead()
}
