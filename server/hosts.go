// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"kindred/api"
	"kindred/inventory"
	"kindred/server/store"
)

// liveness is when hosts were heard by this server. It is in memory alone: the
// store learns of transitions.
type liveness struct {
	mu    sync.Mutex
	seen  map[string]time.Time
	alone map[string]time.Time // hosts of servers that are gone: since when
}

func newLiveness() liveness {
	return liveness{seen: make(map[string]time.Time), alone: make(map[string]time.Time)}
}

func (l *liveness) heard(host string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[host] = now
	delete(l.alone, host)
}

// silent reports whether a host was not heard for too long, and when it was
// heard last. One that another server hears is not; where that server is gone,
// the host is given the time to come to a server that is there.
func (l *liveness) silent(host string, mine, otherThere bool, now time.Time, timeout time.Duration) (last time.Time, silent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if mine {
		last = l.seen[host]
		return last, now.Sub(last) > timeout
	}
	if otherThere {
		delete(l.alone, host)
		return now, false
	}
	since, ok := l.alone[host]
	if !ok {
		since = now
		l.alone[host] = now
	}
	return since, now.Sub(since) > timeout
}

// Report takes what an agent tells of its host. When it returns, the report is
// in the store.
func (s *Server) Report(ctx context.Context, name string, r *api.Report) (*api.ReportAnswer, error) {
	return s.report(ctx, name, r, pack(r))
}

// report takes a report, and as what it is stored.
func (s *Server) report(ctx context.Context, name string, r *api.Report, value []byte) (*api.ReportAnswer, error) {
	switch {
	case r.Own == nil || r.Own.Host == "" || r.Version == "":
		return nil, api.NewProblem(api.BadRequest, "a report has the host's own part, and a version")
	case r.Own.Host != name:
		return nil, api.NewProblem(api.BadRequest, "the report is of %q, and was sent for %q", r.Own.Host, name)
	case strings.ContainsAny(name, "/\x00"):
		return nil, api.NewProblem(api.BadRequest, "%q cannot be a host's name", name)
	case r.Mode != api.Observe && r.Mode != api.Manage:
		return nil, api.NewProblem(api.BadRequest, "the mode %q is neither observe nor manage", r.Mode)
	}
	known, _ := s.view.static(r.Own.Static)
	if known == nil {
		return nil, api.NewProblem(api.NeedStatic, "the static part %s", r.Own.Static)
	}
	if err := r.Own.Validate(known); err != nil {
		return nil, api.NewProblem(api.BadRequest, "%v", err)
	}
	s.live.heard(name, s.now()) // before it can be on record that this server heard it
	one := &draft{value: value, rec: *r}
	s.view.drafts.add(name, one)
	defer s.view.drafts.drop(name, one)
	for range tries {
		static, staticAt := s.view.static(r.Own.Static)
		if static == nil {
			return nil, api.NewProblem(api.NeedStatic, "the static part %s", r.Own.Static)
		}
		h := s.view.state(name)
		var list []store.Write
		guards := []store.Guard{{Key: store.Key(store.Host, name), Revision: h.revision}}
		if h.Version != r.Version || h.Mode != r.Mode || h.Agent != r.Agent || h.Static != r.Own.Static {
			list = append(list, store.Write{Key: store.Key(store.Host, name), Value: one.value})
		}
		if h.Static != r.Own.Static {
			if s.unused.has(r.Own.Static) {
				if err := s.revive(ctx, r.Own.Static, static, staticAt); err != nil {
					return nil, err
				}
				continue
			}
			guards = append(guards, store.Guard{Key: store.Key(store.Static, r.Own.Static), Revision: staticAt})
		}
		if w, ok := s.alive(name, h); ok {
			list = append(list, w)
			guards = append(guards, store.Guard{Key: w.Key, Revision: h.liveRevision})
		}
		ok, err := true, error(nil)
		if len(list) > 0 {
			ok, err = s.together(ctx, store.Txn{If: guards, Then: list})
		}
		if err != nil {
			return nil, err
		}
		if ok {
			return s.answer(), nil
		}
	}
	return nil, errContended
}

// static is a static part that is there, and the revision that it was written at.
func (v *view) static(hash string) (*inventory.Inventory, int64) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.statics[hash], v.staticAt[hash]
}

// state is what is known of a host, which may be nothing.
func (v *view) state(name string) *hostState {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if h := v.hosts[name]; h != nil {
		return h
	}
	return new(hostState)
}

// alive is what is written when a host is heard that this server did not hear
// before.
func (s *Server) alive(name string, h *hostState) (store.Write, bool) {
	l := h.live
	if l.State == api.Reporting && l.Replica == s.replica {
		return store.Write{}, false
	}
	if l.State != api.Reporting {
		l.State, l.Since = api.Reporting, s.now().UTC()
	}
	l.Replica, l.Seen = s.replica, s.now().UTC()
	return store.Write{Key: store.Key(store.Live, name), Value: encode(l)}, true
}

// Alive takes an agent's word that nothing changed.
func (s *Server) Alive(ctx context.Context, name string, a *api.Alive) (*api.ReportAnswer, error) {
	for range tries {
		s.view.mu.RLock()
		h := s.view.hosts[name]
		known := h != nil && s.view.statics[h.Static] != nil
		s.view.mu.RUnlock()
		if !known || h.Version != a.Version {
			return nil, api.NewProblem(api.NeedReport, "")
		}
		s.live.heard(name, s.now()) // before it can be on record that this server heard it
		w, change := s.alive(name, h)
		if !change {
			return s.answer(), nil
		}
		ok, err := s.together(ctx, store.Txn{If: []store.Guard{{Key: w.Key, Revision: h.liveRevision}}, Then: []store.Write{w}})
		if err != nil {
			return nil, err
		}
		if ok {
			return s.answer(), nil
		}
	}
	return nil, errContended
}

func (s *Server) answer() *api.ReportAnswer {
	return &api.ReportAnswer{Revision: s.view.current(), Interval: api.Duration(s.config.Interval), Timeout: api.Duration(s.config.Timeout)}
}

// sweepHosts puts on record which hosts are not heard of any more.
func (s *Server) sweepHosts(ctx context.Context) {
	now := s.now()
	type quiet struct {
		name string
		live liveRecord
		rev  int64
	}
	var list []quiet
	s.view.mu.RLock()
	for name, h := range s.view.hosts {
		if h.live.State != api.Reporting {
			continue
		}
		mine := h.live.Replica == s.replica
		if last, silent := s.live.silent(name, mine, s.view.replicas[h.live.Replica], now, s.config.Timeout); silent {
			list = append(list, quiet{name, liveRecord{State: api.NotReporting, Since: now.UTC(), Seen: last.UTC(), Replica: h.live.Replica}, h.liveRevision})
		}
	}
	s.view.mu.RUnlock()
	var all sync.WaitGroup
	for _, q := range list {
		all.Go(func() {
			key := store.Key(store.Live, q.name)
			// A guard that does not hold says that somebody heard it just now.
			if _, err := s.together(ctx, store.Txn{If: []store.Guard{{Key: key, Revision: q.rev}}, Then: []store.Write{{Key: key, Value: encode(q.live)}}}); err != nil && ctx.Err() == nil {
				s.log.Warn("that a host is silent could not be written", "host", q.name, "error", err)
			}
		})
	}
	all.Wait()
}

// Forget deletes a host that is no more. One that comes back reports again.
func (s *Server) Forget(ctx context.Context, name string) error {
	defer s.turns.take(name)()
	for range tries {
		s.view.mu.RLock()
		h, room, claims, migrations := s.view.hosts[name], s.view.rooms[name], len(s.view.onTarget[name]), len(s.view.onHost[name])
		s.view.mu.RUnlock()
		switch {
		case h == nil:
			return api.NewProblem(api.NotFound, "no host %q has reported", name)
		case h.live.State == api.Reporting:
			return api.NewProblem(api.HostNeeded, "%s reports: stop its agent first", name)
		case claims+migrations > 0:
			return api.NewProblem(api.HostNeeded, "%s has %d open claims and takes part in %d migrations", name, claims, migrations)
		}
		keys := []store.Guard{
			{Key: store.Key(store.Host, name), Revision: h.revision}, {Key: store.Key(store.Live, name), Revision: h.liveRevision},
			{Key: store.Key(store.Room, name), Revision: room},
		}
		var t store.Txn
		for _, k := range keys {
			t.If, t.Then = append(t.If, k), append(t.Then, store.Write{Key: k.Key, Delete: true})
		}
		if ok, err := s.commit(ctx, t); ok || err != nil {
			return err
		}
	}
	return errContended
}

// Hosts lists hosts by name, those after a name.
func (s *Server) Hosts(after string, limit int) *api.Hosts {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	page := &api.Hosts{Hosts: []api.Host{}, Revision: s.view.revision}
	for _, name := range pageOf(s.view.hosts, after, limit, &page.Next) {
		page.Hosts = append(page.Hosts, s.view.describe(name))
	}
	return page
}

// pageOf are the names of a page, and in next where another begins.
func pageOf[T any](m map[string]T, after string, limit int, next *string) []string {
	if limit <= 0 || limit > api.MaxPage {
		limit = api.MaxPage
	}
	names := slices.Sorted(maps.Keys(m))
	from, found := slices.BinarySearch(names, after)
	if found {
		from++
	}
	names = names[from:]
	if len(names) > limit {
		names = names[:limit]
		*next = names[limit-1]
	}
	return names
}

// describe is a host as it is listed. The caller holds the lock.
func (v *view) describe(name string) api.Host {
	h := v.hosts[name]
	host := api.Host{
		Name: name, State: h.live.State, Since: h.live.Since, Mode: h.Mode, Agent: h.Agent,
		Claims: len(v.onTarget[name]), Leftover: h.Leftover, Revision: max(h.revision, h.liveRevision),
	}
	host.Origin, host.Taken, host.Static, host.Devices = h.Origin, h.Taken, h.Static, h.Devices
	if static := v.statics[h.Static]; static != nil {
		host.Kernel, host.Parents = static.Host.Kernel.Release, len(static.Parents)
		for i := range static.Parents {
			host.Types += len(static.Parents[i].Types)
		}
	}
	return host
}

// Host is one host with its inventory.
func (s *Server) Host(name string) (*api.HostDetail, error) {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	inv := s.view.inventory(name)
	if inv == nil {
		return nil, api.NewProblem(api.NotFound, "no host %q has reported", name)
	}
	return &api.HostDetail{Host: s.view.describe(name), Inventory: inv}, nil
}

// inventory is what a host reported last, nil for none. The caller holds the
// lock.
func (v *view) inventory(name string) *inventory.Inventory {
	h := v.hosts[name]
	if h == nil || v.statics[h.Static] == nil {
		return nil
	}
	return inventory.Join(v.statics[h.Static], h.own())
}
