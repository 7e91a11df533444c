// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"kindred/api"
	"kindred/fleet"
	"kindred/inventory"
)

// scene is what a drain finds at one moment: who is left on its hosts, who is
// under way, and where nobody may be put.
type scene struct {
	hosts   []string         // to be drained now, that there are
	owners  []fleet.Owner    // that could be planned for, with all their devices
	tries   map[string]int   // of them, that failed
	settled []api.DrainOwner // moved, moving, or not to be planned for
	busy    map[string]bool  // hosts that something is left on, or under way from
	labels  map[string][]string
	avoid   []string
	first   []string
	moving  int // moves under way
	open    int // migrations and canaries that are not over, clearing up counted in
}

// hop is one move of a device that ended with the target as the owner.
type hop struct {
	to       string // HOST/ID
	revision int64
}

// looker puts a scene together. The view's lock is held.
type looker struct {
	*scene
	view   *view
	drain  *drainRecord
	fleet  *fleet.Fleet
	known  []fleet.Owner              // that were given
	byName map[string]int             // which of them
	owner  map[string]int             // the same, by HOST/ID of their devices
	at     []map[string]bool          // the hosts of each
	went   map[string][]hop           // from HOST/ID
	barred map[string]map[string]bool // owner -> hosts where it could not be put
	failed map[string]*migrationRecord
}

// scene looks at what there is to do for a drain. f is the fleet of the view's
// moment or of one a little earlier: what is in one of them alone waits.
func (v *view) scene(d *drainRecord, f *fleet.Fleet) *scene {
	v.mu.RLock()
	defer v.mu.RUnlock()
	l := &looker{
		view: v, drain: d, fleet: f, known: v.owners[d.ID], byName: make(map[string]int), owner: make(map[string]int), went: make(map[string][]hop),
		barred: make(map[string]map[string]bool), failed: make(map[string]*migrationRecord),
		scene: &scene{tries: make(map[string]int), busy: make(map[string]bool), labels: make(map[string][]string), settled: []api.DrainOwner{}},
	}
	l.follow()
	l.attempts()
	l.label()
	for _, name := range d.wave() {
		if h := v.hosts[name]; h != nil && h.Static != "" && f.Has(name) {
			l.hosts = append(l.hosts, name)
			l.look(name, h)
		}
	}
	l.elsewhere()
	return l.scene
}

// follow finds where devices went.
func (l *looker) follow() {
	for _, m := range l.view.migrations {
		if m.Host != m.Target {
			continue
		}
		for i := range m.Devices {
			from := m.Source + "/" + m.Devices[i].Source
			l.went[from] = append(l.went[from], hop{m.Target + "/" + m.Devices[i].Target, m.Revision})
		}
	}
	for _, hops := range l.went {
		slices.SortFunc(hops, func(a, b hop) int { return int(a.revision - b.revision) })
	}
}

// now is where a device is that was somewhere when the drain began.
func (l *looker) now(ref string) string {
	for since := l.drain.begun; ; {
		i := slices.IndexFunc(l.went[ref], func(h hop) bool { return h.revision > since })
		if i < 0 {
			return ref
		}
		ref, since = l.went[ref][i].to, l.went[ref][i].revision
	}
}

// attempts looks at the drain's migrations: what is under way, what was moved,
// and where an owner could not be put.
func (l *looker) attempts() {
	for _, id := range slices.Sorted(maps.Keys(l.view.ofDrain[l.drain.ID])) {
		m := l.view.migrations[id]
		if !m.State.Over() {
			l.open++
		}
		if underWay(m.State) {
			l.moving++
		}
		switch {
		case m.State != api.Aborted:
			l.settled = append(l.settled, l.attempted(m))
			if !m.State.Over() {
				l.busy[m.Source] = true
			}
		case m.Round == l.drain.Round:
			l.tries[m.Owner]++
			add(l.barred, m.Owner, m.Target)
			if before := l.failed[m.Owner]; before == nil || before.Revision < m.Revision {
				l.failed[m.Owner] = m
			}
		}
	}
}

// attempted is an owner that has a migration which is not aborted.
func (l *looker) attempted(m *migrationRecord) api.DrainOwner {
	o := api.DrainOwner{Owner: m.Owner, Host: m.Source, State: api.OwnerMoving, Target: m.Target, Migration: m.ID, Step: m.State, Code: string(m.Code), Reason: m.Reason}
	for _, d := range m.Devices {
		o.Devices = append(o.Devices, d.Source)
	}
	switch h := l.view.hosts[m.Target]; {
	case m.Host == m.Target:
		o.State = api.OwnerMoved
	case m.State == api.Aborting && (h == nil || h.live.State != api.Reporting):
		o.State, o.Code = api.OwnerStays, string(api.HostSilent)
		o.Reason = fmt.Sprintf("%s is to clear up after migration %s, and does not report", m.Target, m.ID)
	}
	return o
}

// label finds the owners' devices, and keeps the labels of owners where they are,
// or go.
func (l *looker) label() {
	l.at = make([]map[string]bool, len(l.known))
	for i := range l.known {
		l.at[i] = make(map[string]bool)
		l.byName[l.known[i].Name] = i
		for _, ref := range l.known[i].Devices {
			ref = l.now(ref)
			l.owner[ref] = i
			host, _, _ := strings.Cut(ref, "/")
			l.at[i][host] = true
		}
	}
	for i := range l.known {
		for host := range l.at[i] {
			l.keepApart(host, &l.known[i])
		}
	}
	for id := range l.view.ofDrain[l.drain.ID] {
		m := l.view.migrations[id]
		if i, ok := l.byName[m.Owner]; ok && !m.State.Over() {
			l.keepApart(m.Target, &l.known[i])
		}
	}
}

func (l *looker) keepApart(host string, o *fleet.Owner) {
	if len(o.Apart) > 0 {
		l.labels[host] = append(l.labels[host], o.Apart...)
	}
}

// look finds who is left on one host.
func (l *looker) look(name string, h *hostState) {
	named := make(map[int]*fleet.Owner)
	var list []*fleet.Owner
	own := h.own()
	for i := range own.Devices {
		d := &own.Devices[i]
		if l.left(name, h, d) {
			continue
		}
		ref := name + "/" + d.ID
		n, known := l.owner[ref]
		switch {
		case d.Canary != "":
			l.open++ // the host is not empty before it is gone
			l.busy[name] = true
			continue
		case !known:
			list = append(list, &fleet.Owner{Name: ref, Devices: []string{ref}})
			continue
		case named[n] == nil:
			named[n] = &fleet.Owner{Name: l.known[n].Name, Apart: l.known[n].Apart, Not: l.known[n].Not}
			list = append(list, named[n])
		}
		named[n].Devices = append(named[n].Devices, ref)
	}
	for _, o := range list {
		if l.moves(o) {
			continue
		}
		l.busy[name] = true
		o.Not = slices.Sorted(maps.Keys(union(l.barred[o.Name], o.Not)))
		if code, reason := l.stays(name, h, o); code != "" {
			l.settled = append(l.settled, l.staying(name, o, code, reason))
			continue
		}
		l.owners = append(l.owners, *o)
	}
}

func union(set map[string]bool, list []string) map[string]bool {
	all := maps.Clone(set)
	if all == nil {
		all = make(map[string]bool)
	}
	for _, name := range list {
		all[name] = true
	}
	return all
}

// left reports whether a device that a host reported is no owner's there: it is
// a function that nobody uses, it comes with a migration that is not over, or it
// went with one, and the report is from before.
func (l *looker) left(name string, h *hostState, d *inventory.Device) bool {
	if d.Kind == inventory.VF && d.InUse == inventory.No {
		return true
	}
	for id := range l.view.onHost[name] {
		if m := l.view.migrations[id]; m.Target == name && m.Host != name && slices.ContainsFunc(m.Devices, func(o api.MigrationDevice) bool { return o.Target == d.ID }) {
			return true
		}
	}
	hops := l.went[name+"/"+d.ID]
	if len(hops) == 0 {
		return false
	}
	// A new mdev has a name of its own; a function is there before and after.
	last := hops[len(hops)-1].revision
	return h.revision < last || d.Kind == inventory.Mdev && last > l.drain.begun
}

// moves reports whether one of the drain's migrations has the owner.
func (l *looker) moves(o *fleet.Owner) bool {
	return slices.ContainsFunc(o.Devices, func(ref string) bool {
		taken, ok := l.view.devices[ref]
		return ok && l.view.ofDrain[l.drain.ID][string(taken.Value)]
	})
}

// stays says why an owner cannot be planned for, if so.
func (l *looker) stays(name string, h *hostState, o *fleet.Owner) (code, reason string) {
	for _, ref := range o.Devices {
		if taken, ok := l.view.devices[ref]; ok {
			return string(api.DeviceClaimed), fmt.Sprintf("device %s: claim %s", ref, taken.Value)
		}
		if _, err := l.fleet.Source(ref); err != nil {
			return string(api.NotFound), err.Error()
		}
	}
	switch {
	case h.live.State != api.Reporting:
		return string(api.HostSilent), fmt.Sprintf("%s, since %s", name, h.live.Since.UTC().Format(time.RFC3339))
	case h.Mode != api.Manage:
		return string(api.HostObserves), fmt.Sprintf("%s: %s", name, api.HostObserves.Meaning())
	case len(o.Devices) > api.MaxDevices:
		return string(api.BadRequest), fmt.Sprintf("it has %d devices, and a claim is for up to %d", len(o.Devices), api.MaxDevices)
	case l.scattered(o):
		return string(fleet.Apart), "its devices are on several hosts"
	case l.tries[o.Name] >= api.MaxDrainTries:
		failed := l.failed[o.Name]
		return string(api.MoveFailed), fmt.Sprintf("%d moves failed, the last to %s: %s", l.tries[o.Name], failed.Target, failed.Reason)
	}
	return "", ""
}

func (l *looker) scattered(o *fleet.Owner) bool {
	n, ok := l.byName[o.Name]
	return ok && len(l.at[n]) > 1
}

func (w *scene) staying(host string, o *fleet.Owner, code, reason string) api.DrainOwner {
	one := api.DrainOwner{Owner: o.Name, Host: host, State: api.OwnerStays, Tries: w.tries[o.Name], Code: code, Reason: reason}
	for _, ref := range o.Devices {
		one.Devices = append(one.Devices, strings.TrimPrefix(ref, host+"/"))
	}
	return one
}

// elsewhere finds hosts that nobody is put on, and those that come first.
func (l *looker) elsewhere() {
	for name, h := range l.view.hosts {
		if h.Mode != api.Manage {
			l.avoid = append(l.avoid, name)
		}
	}
	for id, other := range l.view.drains {
		if id != l.drain.ID && !other.State.Over() {
			l.avoid = append(l.avoid, other.wave()...)
		}
	}
	if l.drain.Wave > 0 {
		l.first = l.drain.Hosts[:min((l.drain.Turn-1)*l.drain.Wave, len(l.drain.Hosts))]
	}
}

// plan plans for the owners that are left.
func (w *scene) plan(f *fleet.Fleet, d *drainRecord, now time.Time) (*fleet.Plan, error) {
	return f.Drain(w.hosts, fleet.DrainOptions{
		Owners: w.owners, NamedOnly: true, Policy: d.Policy, Proven: d.Proven, Now: now, MaxAge: 1, Avoid: w.avoid, First: w.first, Labels: w.labels,
	})
}

// left are the owners of a plan: those that wait to be moved, and those that
// stay.
func (w *scene) left(plan *fleet.Plan) (list []api.DrainOwner) {
	for _, m := range plan.Moves {
		o := api.DrainOwner{Owner: m.Owner, Host: m.From, State: api.OwnerWaiting, Tries: w.tries[m.Owner]}
		for _, g := range m.Gets {
			o.Devices = append(o.Devices, g.Device)
		}
		list = append(list, o)
	}
	for _, st := range plan.Stays {
		list = append(list, api.DrainOwner{Owner: st.Owner, Host: st.Host, Devices: st.Devices, State: api.OwnerStays, Tries: w.tries[st.Owner], Code: string(st.Code), Reason: st.Detail})
	}
	return list
}

// staying are the owners of a list that cannot be moved.
func staying(list []api.DrainOwner) (stay []api.DrainOwner) {
	for _, o := range list {
		if o.State == api.OwnerStays {
			stay = append(stay, o)
		}
	}
	return stay
}

// builds tell whether hosts were changed: their kernel, modules and firmware.
func (v *view) builds(hosts []string) map[string]string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	all := make(map[string]string)
	for _, name := range hosts {
		h := v.hosts[name]
		if h == nil || v.statics[h.Static] == nil {
			continue
		}
		static := v.statics[h.Static]
		what := []any{static.Host.Kernel, static.Modules}
		for i := range static.Parents {
			what = append(what, static.Parents[i].Firmware)
		}
		sum := sha256.Sum256(encode(what))
		all[name] = fmt.Sprintf("%x", sum[:8])
	}
	return all
}
