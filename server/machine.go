// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"kindred/api"
)

// facts are what a migration's next step depends on beside its record.
type facts struct {
	now time.Time
	// listed is true when the target's last report has every device that is there, and
	// no other of them, so that the report's counters have them counted.
	listed bool
	// reporting are the hosts of the migration that are heard of.
	reporting []string
}

// enter changes the state. What was said of an earlier state counts no more.
func enter(m *api.Migration, state api.MigrationState, now time.Time, code api.Code, reason string) {
	m.State, m.Changed, m.Code, m.Reason = state, now, code, reason
	restep(m)
	if state == api.Completing {
		m.Host = m.Target // the one change of owner
	}
}

// restep asks the agents anew.
func restep(m *api.Migration) {
	m.Step++
	for i := range m.Devices {
		d := &m.Devices[i]
		d.AtSource, d.AtTarget, d.Detail = "", "", ""
	}
}

// hear takes what an agent says of one device, and reports whether it is news.
// A word on another step is none: the agent will speak again when it has heard
// of this one.
func hear(m *api.Migration, host string, s api.Status) bool {
	if s.Step != m.Step || m.State.Over() {
		return false
	}
	for i := range m.Devices {
		d := &m.Devices[i]
		if d.Source != s.Source {
			continue
		}
		before := *d
		switch host {
		case m.Target:
			d.AtTarget = s.State
			if d.Target == "" && (s.State == api.Made || s.State == api.Busy) {
				d.Target = s.Device
			}
		case m.Source:
			d.AtSource = s.State
		default:
			return false
		}
		ahead := m.Ahead
		if s.State == api.Later {
			learn(m, host, s.Ahead)
		}
		if s.Detail != "" || s.State == api.Failed || s.State == api.Stuck {
			d.Detail = s.Detail
		}
		return *d != before || m.Ahead != ahead
	}
	return false
}

// ends are what the agents said of all devices at one end.
type ends struct {
	made, busy, failed, kept, gone, stuck, silent, all int

	lost bool // the host is
}

func count(m *api.Migration, at func(*api.MigrationDevice) api.DeviceState) (e ends) {
	for i := range m.Devices {
		e.all++
		switch at(&m.Devices[i]) {
		case api.Made:
			e.made++
		case api.Busy:
			e.busy++
		case api.Failed:
			e.failed++
		case api.Kept:
			e.kept++
		case api.Gone:
			e.gone++
		case api.Stuck:
			e.stuck++
		default:
			e.silent++
		}
	}
	return e
}

func atSource(d *api.MigrationDevice) api.DeviceState { return d.AtSource }
func atTarget(d *api.MigrationDevice) api.DeviceState { return d.AtTarget }

// advance does the next step that the facts allow without anybody's word, and
// reports whether there was one. Called again with the same facts it does the
// one after, until there is none.
func advance(m *api.Migration, f facts) bool {
	late := !m.Deadline.IsZero() && f.now.After(m.Deadline)
	if m.Ahead != nil && !m.State.Over() {
		return follow(m, f.now)
	}
	if back(m, f) {
		return true
	}
	source, target := both(m)
	switch m.State {
	case api.Planned:
		if late {
			enter(m, api.Aborted, f.now, api.DeadlinePassed, "no target was claimed in time")
			return true
		}
	case api.Claimed, api.Prepared:
		switch {
		case target.failed > 0:
			enter(m, api.Aborting, f.now, api.DeviceFailed, "the target could not make a device: "+details(m))
			return true
		case late:
			enter(m, api.Aborting, f.now, api.DeadlinePassed, "the deadline passed before it was handed over")
			return true
		case m.State == api.Claimed && target.made+target.busy == target.all:
			enter(m, api.Prepared, f.now, "", "")
			return true
		}
	case api.HandedOver:
		return late && doubt(m, f, source, target)
	case api.Aborting:
		switch {
		case target.gone == target.all:
			enter(m, api.Aborted, f.now, m.Code, m.Reason)
			return true
		case target.busy == target.all && source.made+source.gone == source.all:
			// Nothing was removed, and the VM can be nowhere else.
			enter(m, api.Completing, f.now, m.Code, "processes on the target have all devices open and none on the source has: "+m.Reason)
			return true
		}
	case api.Completing:
		if target.kept == target.all && source.gone == source.all && (f.listed || target.lost) {
			enter(m, api.Completed, f.now, m.Code, m.Reason)
			return true
		}
		if target.kept+target.gone == target.all && source.gone == source.all && f.listed {
			// Nobody has what is gone, and nobody can bring its state back.
			enter(m, api.Completed, f.now, cmp.Or(m.Code, api.DeviceGone), lacking(m))
			return true
		}
	}
	return false
}

// lacking says what is gone from the target that became the owner.
func lacking(m *api.Migration) string {
	var list []string
	for i := range m.Devices {
		if d := &m.Devices[i]; d.AtTarget == api.Gone {
			list = append(list, cmp.Or(d.Target, d.Source))
		}
	}
	reason := "not on " + m.Target + " any more: " + strings.Join(list, ", ")
	if m.Reason != "" {
		reason = m.Reason + "; " + reason
	}
	return reason
}

// doubt is what happens when nobody said in time how a migration ended. The
// agents are asked which devices are open; what they said before does not count.
// While they do not say the same, or not all do, nothing happens.
func doubt(m *api.Migration, f facts, source, target ends) bool {
	const asking = "the deadline passed, and nobody said how it ended: "
	switch {
	case m.Code != api.DeadlinePassed:
		m.Code, m.Reason = api.DeadlinePassed, asking+"asking both hosts which devices are in use"
		restep(m)
		return true
	case target.busy == target.all && source.made+source.gone == source.all:
		enter(m, api.Completing, f.now, m.Code, asking+"the target's devices are in use, the source's are not")
		return true
	case target.made+target.gone+target.failed == target.all && (source.made+source.busy == source.all || source.lost):
		enter(m, api.Aborting, f.now, m.Code, asking+"no device of the target is in use, and the source has all of them, or is lost")
		return true
	}
	return false
}

func details(m *api.Migration) string {
	var list []string
	for i := range m.Devices {
		if d := &m.Devices[i]; d.AtTarget == api.Failed {
			list = append(list, d.Source+": "+d.Detail)
		}
	}
	return strings.Join(list, "; ")
}

func wrongState(m *api.Migration, what string) error {
	p := api.NewProblem(api.WrongState, "migration %s is %s, and cannot be %s", m.ID, m.State, what)
	if m.Reason != "" {
		p.Detail += ": " + m.Reason
	}
	return p
}

// handOver gives the devices to the VM manager, who may use them from now on.
func handOver(m *api.Migration, now time.Time) (changed bool, err error) {
	switch {
	case m.Ahead != nil:
	case m.State == api.HandedOver:
		return false, nil
	case m.State == api.Prepared:
		if now.After(m.Deadline) {
			return false, api.NewProblem(api.DeadlinePassed, "migration %s was to be handed over until %s", m.ID, m.Deadline.UTC().Format(time.RFC3339))
		}
		enter(m, api.HandedOver, now, "", "")
		return true, nil
	}
	return false, wrongState(m, "handed over")
}

// complete takes the VM manager's word that the VM runs on the target. While a
// migration is being aborted it is believed only if the target still has every
// device, and in use.
func complete(m *api.Migration, now time.Time) (changed bool, err error) {
	if m.Ahead != nil && !m.State.Over() && m.State != api.Planned {
		overtake(m, api.Completing, now, m.Reason)
		return true, nil
	}
	switch m.State {
	case api.Completing, api.Completed:
		return false, nil
	case api.Aborting:
		if e := count(m, atTarget); e.busy != e.all {
			return false, wrongState(m, "completed while the target gives its devices back")
		}
	case api.HandedOver:
	default:
		return false, wrongState(m, "completed")
	}
	enter(m, api.Completing, now, "", "")
	return true, nil
}

// abort takes somebody's word that the VM stays, or is, on the source.
func abort(m *api.Migration, now time.Time, reason string) (changed bool, err error) {
	if reason == "" {
		reason = "aborted on request"
	}
	if m.Ahead != nil && !m.State.Over() && m.State != api.Completing {
		overtake(m, api.Aborting, now, reason)
		return true, nil
	}
	switch m.State {
	case api.Aborting, api.Aborted:
		return false, nil
	case api.Planned:
		enter(m, api.Aborted, now, "", reason)
	case api.Claimed, api.Prepared, api.HandedOver:
		enter(m, api.Aborting, now, "", reason)
	default:
		return false, wrongState(m, "aborted: its devices are the target's")
	}
	return true, nil
}

// assignments are what a host has to do for a migration, by the device.
func assignments(m *api.Migration, c *api.Claim, host string) []api.Assignment {
	do := map[string]map[api.MigrationState]api.Action{
		m.Target: {
			api.Claimed: api.Make, api.Prepared: api.Make, api.HandedOver: api.Make,
			api.Completing: api.Keep, api.Aborting: api.Release,
		},
		m.Source: {api.HandedOver: api.Hold, api.Aborting: api.Hold, api.Completing: api.Release},
	}[host][m.State]
	if do == "" || c == nil {
		return nil
	}
	if do == api.Release && m.Ahead != nil {
		do = api.Hold // nothing is removed by what may be old
	}
	var list []api.Assignment
	for i := range m.Devices {
		a := api.Assignment{Migration: m.ID, Claim: m.Claim, Fence: c.Fence, Step: m.Step, Do: do, Device: m.Devices[i].Target, Spec: c.Devices[i]}
		if host == m.Source {
			a.Device, a.AtSource = m.Devices[i].Source, true
		}
		list = append(list, a)
	}
	return list
}

// consistent says what of a migration cannot be so; a record is never written
// otherwise.
func consistent(m *api.Migration) error {
	wanted := m.Source
	if m.State == api.Completing || m.State == api.Completed {
		wanted = m.Target
	}
	switch {
	case m.Host != wanted:
		return fmt.Errorf("migration %s is %s, and its owner %s instead of %s", m.ID, m.State, m.Host, wanted)
	case m.State != api.Planned && m.State != api.Aborted && (m.Claim == "" || m.Target == "" || len(m.Devices) == 0):
		return fmt.Errorf("migration %s is %s, and has no claim", m.ID, m.State)
	}
	return nil
}
