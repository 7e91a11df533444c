// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"time"

	"kindred/api"
)

// A server that was restored from a backup knows nothing of what happened since,
// and its agents do: what they carried out last is on their disks, and they refuse
// what is older. A migration of which one of them says so waits for nothing and
// removes nothing by itself any more, but where what was carried out leaves no
// doubt.

// learn notes what a host has carried out beyond a migration's record.
func learn(m *api.Migration, host string, a *api.Ahead) {
	if a == nil {
		return
	}
	told := *a
	told.Host = host
	switch was := m.Ahead; {
	case was == nil, decides(m, &told) && !decides(m, was), decides(m, &told) == decides(m, was) && told.Step > was.Step:
		m.Ahead = &told
	}
}

// decides reports whether what was carried out says that the target became the
// owner: only then it is told to keep the devices, or the source to remove them.
func decides(m *api.Migration, a *api.Ahead) bool {
	return a.Claim == m.Claim && (a.Do == api.Keep || a.Do == api.Release && a.Host == m.Source)
}

// follow does what can be done of a migration that is behind its hosts.
func follow(m *api.Migration, now time.Time) bool {
	switch {
	case decides(m, m.Ahead):
		overtake(m, api.Completing, now, m.Ahead.Host+" has carried out so already: this server was restored from before that")
		return true
	case m.Code == api.HostAhead:
		return false
	}
	m.Code, m.Reason = api.HostAhead, fmt.Sprintf("%s has carried out %s since, for step %d of claim %s: this server was restored from before that. Say complete if the VM runs on %s, abort if on %s",
		m.Ahead.Host, m.Ahead.Do, m.Ahead.Step, m.Ahead.Claim, m.Target, m.Source)
	return true
}

// overtake enters a state beyond the steps that agents have carried out. Where they
// have carried out another claim for the same device, this migration was over
// before that claim could be made, and they are asked nothing more of it.
func overtake(m *api.Migration, state api.MigrationState, now time.Time, reason string) {
	a := m.Ahead
	m.Ahead = nil
	if a.Claim == m.Claim {
		m.Step = max(m.Step, a.Step)
		enter(m, state, now, "", reason)
		return
	}
	enter(m, state, now, "", reason)
	enter(m, map[api.MigrationState]api.MigrationState{api.Completing: api.Completed, api.Aborting: api.Aborted}[state], now, "", reason)
}
