// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"kindred/api"
	"kindred/compat"
	"kindred/inventory"
	"kindred/server/store"
)

// migration is a copy of a migration as this server has seen it, to be changed,
// and the revision to guard it by.
func (s *Server) migration(id string) (*migrationRecord, int64) {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	m := s.view.migrations[id]
	if m == nil {
		return nil, 0
	}
	c := *m
	c.Devices = slices.Clone(m.Devices)
	return &c, m.Revision
}

// CreateMigration plans a migration, and claims its target, unless the request
// names a claim that was made for it. When no target can be claimed, nothing was
// made, or the answer is a migration that is aborted.
func (s *Server) CreateMigration(ctx context.Context, by, key string, req api.MigrationRequest) (*api.Migration, error) {
	id, sum := named(by, key), digest(req)
	if req.Claim != "" {
		if len(req.Devices) > 0 || req.Target != "" || len(req.Accept) > 0 {
			return nil, api.NewProblem(api.BadRequest, "a migration has a claim, or what is to be claimed")
		}
		if m, err := s.madeBefore(id, sum); m != nil || err != nil {
			return m, err
		}
		return s.bind(ctx, by, id, sum, req.Claim)
	}
	if err := s.check(&req.ClaimRequest, by); err != nil {
		return nil, err
	}
	mkey := store.Key(store.Migration, id)
	check := s.refusals(mkey)
	for range tries {
		if m, err := s.madeBefore(id, sum); m != nil || err != nil {
			return m, err
		}
		check.seen = s.view.current()
		p, err := s.view.plan(ctx, &req.ClaimRequest, s.now(), true)
		if err != nil {
			if again, err := check.stands(ctx, p, err); !again {
				return nil, err
			}
			continue
		}
		m := &migrationRecord{Digest: sum, Migration: s.planned(id, by, &p.claim, req.ClaimRequest)}
		ok, err := s.commit(ctx, store.Txn{If: []store.Guard{{Key: mkey}}, Then: []store.Write{{Key: mkey, Value: encode(m)}}})
		if err != nil {
			return nil, err
		}
		if !ok {
			continue // it was made before, and this server had not seen it
		}
		if err := s.claimFor(ctx, id); err != nil {
			return nil, err
		}
		return s.Migration(ctx, id)
	}
	return nil, errContended
}

// madeBefore is the migration that the same request made, nil for none.
func (s *Server) madeBefore(id, sum string) (*api.Migration, error) {
	m, _ := s.migration(id)
	switch {
	case m == nil:
		return nil, nil
	case m.Digest != sum:
		return nil, api.NewProblem(api.KeyReused, "it made migration %s", id)
	}
	return &m.Migration, nil
}

// planned is a migration that still has to claim what was judged to be possible.
func (s *Server) planned(id, by string, c *api.Claim, req api.ClaimRequest) api.Migration {
	now := s.now().UTC()
	m := api.Migration{
		ID: id, State: api.Planned, Host: c.Source, Source: c.Source, Target: req.Target, Owner: req.Owner, By: by,
		Devices: []api.MigrationDevice{}, Created: now, Changed: now, Deadline: now.Add(req.TTL.Of()), Request: &req,
	}
	// What was named by its beginning is the same device from now on.
	m.Request.Devices = nil
	for _, d := range c.Devices {
		m.Devices = append(m.Devices, api.MigrationDevice{Source: d.Source})
		m.Request.Devices = append(m.Request.Devices, c.Source+"/"+d.Source)
	}
	return m
}

// bind makes a migration of a claim that is held.
func (s *Server) bind(ctx context.Context, by, id, sum, claim string) (*api.Migration, error) {
	_, err := s.changeClaim(ctx, claim, 0, func(c *claimRecord, t *store.Txn) error {
		now := s.now().UTC()
		switch {
		case c.State == api.Bound && c.Migration == id:
			return errNothing
		case c.State == api.Bound:
			return api.NewProblem(api.ClaimBound, "claim %s by migration %s", claim, c.Migration)
		case c.State == api.Ended:
			return api.NewProblem(api.ClaimEnded, "claim %s was %s", claim, c.End)
		case now.After(c.Deadline):
			return api.NewProblem(api.DeadlinePassed, "claim %s held room until %s", claim, c.Deadline.Format(time.RFC3339))
		}
		for _, host := range []string{c.Source, c.Target} {
			s.view.mu.RLock()
			h := s.view.hosts[host]
			s.view.mu.RUnlock()
			if h == nil || h.Mode != api.Manage {
				return api.NewProblem(api.HostObserves, "%s", host)
			}
		}
		c.State, c.Migration = api.Bound, id
		m := &migrationRecord{Digest: sum, Migration: api.Migration{
			ID: id, Host: c.Source, Source: c.Source, Target: c.Target, Owner: c.Owner, By: by, Claim: claim, Created: now, Deadline: c.Deadline,
		}}
		fill(m, c)
		enter(&m.Migration, api.Claimed, now, "", "")
		key := store.Key(store.Migration, id)
		t.If = append(t.If, store.Guard{Key: key})
		t.Then = append(t.Then, store.Write{Key: key, Value: encode(m)})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.Migration(ctx, id)
}

// fill takes the devices of a claim.
func fill(m *migrationRecord, c *claimRecord) {
	m.Devices = nil
	for _, d := range c.Devices {
		m.Devices = append(m.Devices, api.MigrationDevice{Source: d.Source, Target: d.Device})
	}
}

// claimFor does the step from planned to claimed: the claim, and that the
// migration has it, in one transaction. A refusal aborts the migration, on
// which no device depends yet.
func (s *Server) claimFor(ctx context.Context, id string) error {
	m, _ := s.migration(id)
	if m == nil || m.State != api.Planned {
		return nil
	}
	_, err := s.claim(ctx, m.By, m.ID, m.Digest, m.Request, true, func(c *claimRecord, t *store.Txn) error {
		now, revision := s.now().UTC(), int64(0)
		if m, revision = s.migration(id); m == nil || m.State != api.Planned {
			return errNothing
		}
		c.State, c.Migration = api.Bound, id
		c.until(m.Deadline)
		m.Deadline = c.Deadline
		m.Claim, m.Target, m.Request = c.ID, c.Target, nil
		fill(m, c)
		enter(&m.Migration, api.Claimed, now, "", "")
		key := store.Key(store.Migration, id)
		t.If = append(t.If, store.Guard{Key: key, Revision: revision})
		t.Then = append(t.Then, store.Write{Key: key, Value: encode(m)})
		return nil
	})
	refused, ok := errors.AsType[*api.Problem](err)
	switch {
	case err == nil || errors.Is(err, errNothing):
		return nil
	case !ok || refused.Code == api.Unavailable:
		return err // and it is tried again
	}
	_, err = s.changeMigration(ctx, id, 0, func(m *migrationRecord, now time.Time) (bool, error) {
		if m.State != api.Planned {
			return false, nil
		}
		enter(&m.Migration, api.Aborted, now, refused.Code, refused.Error())
		return true, nil
	})
	return err
}

// Migration is one migration as it is in the store at this moment.
func (s *Server) Migration(ctx context.Context, id string) (*api.Migration, error) {
	m, err := s.readMigration(ctx, id)
	if err != nil {
		return nil, err
	}
	return &m.Migration, nil
}

func (s *Server) readMigration(ctx context.Context, id string) (*migrationRecord, error) {
	r, err := s.read(ctx, store.Migration, id)
	if err != nil {
		return nil, err
	}
	m := new(migrationRecord)
	if err := decode(r, m); err != nil {
		return nil, fmt.Errorf("read migration %s: %w", id, err)
	}
	m.Revision = r.Revision
	return m, nil
}

// Migrations lists migrations by id.
func (s *Server) Migrations(after string, limit int, all bool) *api.Migrations {
	return s.migrations("", &Listed{Page{after, limit}, all})
}

// migrations lists those from and to a host; empty: all.
func (s *Server) migrations(host string, in *Listed) *api.Migrations {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	page := &api.Migrations{Migrations: []api.Migration{}, Revision: s.view.revision}
	open := make(map[string]*migrationRecord)
	for id, m := range s.view.migrations {
		if (in.All || !m.State.Over()) && (host == "" || m.Source == host || m.Target == host) {
			open[id] = m
		}
	}
	for _, id := range pageOf(open, in.After, in.Limit, &page.Next) {
		page.Migrations = append(page.Migrations, open[id].Migration)
	}
	return page
}

// HandOver gives the prepared devices to the VM manager.
func (s *Server) HandOver(ctx context.Context, id string, match int64) (*api.Migration, error) {
	return s.changeMigration(ctx, id, match, func(m *migrationRecord, now time.Time) (bool, error) { return handOver(&m.Migration, now) })
}

// Complete makes the target the owner.
func (s *Server) Complete(ctx context.Context, id string, match int64) (*api.Migration, error) {
	return s.CompleteWith(ctx, id, match, api.Completion{})
}

// CompleteWith makes the target the owner. That a device's state was refused
// counts whenever it is said: somebody may have said before that the VM runs.
func (s *Server) CompleteWith(ctx context.Context, id string, match int64, with api.Completion) (*api.Migration, error) {
	return s.changeMigration(ctx, id, match, func(m *migrationRecord, now time.Time) (bool, error) {
		open := m.State == api.HandedOver
		changed, err := complete(&m.Migration, now)
		if err != nil {
			return false, err
		}
		if open && !with.NoProof {
			m.result = compat.Accepted
		}
		return m.reset(with.Rejected) || changed, nil
	})
}

// reset puts on record which devices were, and reports whether that was not there.
func (m *migrationRecord) reset(rejected []api.Rejection) (changed bool) {
	if len(rejected) == 0 || m.Code == api.DeviceReset {
		return false
	}
	m.rejected = make(map[string]string)
	m.Code, m.Reason = api.DeviceReset, "the VM runs on "+m.Target+", and a driver refused the state, so that the device was reset: "
	for i, r := range rejected {
		m.rejected[r.Device] = r.Error
		if i > 0 {
			m.Reason += "; "
		}
		m.Reason += r.Device + ": " + r.Error
	}
	return true
}

// Abort leaves the source the owner.
func (s *Server) Abort(ctx context.Context, id string, match int64, a api.Abort) (*api.Migration, error) {
	reason := a.Reason
	if a.Rejected != "" {
		reason = "a driver refused the state: " + a.Rejected
	}
	return s.changeMigration(ctx, id, match, func(m *migrationRecord, now time.Time) (bool, error) {
		open := m.State == api.HandedOver
		changed, err := abort(&m.Migration, now, reason)
		if err != nil {
			return false, err
		}
		// Also when somebody said before that the VM stayed: the source hears of that
		// first, the target knows why.
		if a.Rejected != "" && (open || !changed) && m.Code != api.StateRejected {
			m.result, m.detail = compat.Rejected, a.Rejected
			m.Code, m.Reason, changed = api.StateRejected, reason, true
		}
		return changed, nil
	})
}

// Status takes what an agent says of its assignments.
func (s *Server) Status(ctx context.Context, host string, r api.StatusReport) error {
	byMigration := make(map[string][]api.Status)
	for _, one := range r.Statuses {
		byMigration[one.Migration] = append(byMigration[one.Migration], one)
	}
	for _, id := range slices.Sorted(maps.Keys(byMigration)) {
		_, err := s.changeMigration(ctx, id, 0, func(m *migrationRecord, _ time.Time) (news bool, err error) {
			for _, one := range byMigration[id] {
				news = hear(&m.Migration, host, one) || news
			}
			return news, nil
		})
		if err != nil && !errors.Is(err, &api.Problem{Code: api.NotFound}) {
			return err
		}
	}
	return nil
}

// changeMigration reads, changes and writes a migration until all was of one
// moment. What follows from the change without anybody's word is written with
// it, and so is what becomes of its claim.
func (s *Server) changeMigration(ctx context.Context, id string, match int64, change func(m *migrationRecord, now time.Time) (bool, error)) (*api.Migration, error) {
	key := store.Key(store.Migration, id)
	for range tries {
		m, err := s.readMigration(ctx, id)
		if err != nil {
			return nil, err
		}
		if match != 0 && m.Revision != match {
			return nil, api.NewProblem(api.RevisionChanged, "migration %s is at revision %d", id, m.Revision)
		}
		before := m.Revision
		changed, err := change(m, s.now().UTC())
		if err != nil {
			return nil, err
		}
		t := store.Txn{If: []store.Guard{{Key: key, Revision: before}}}
		for advance(&m.Migration, s.facts(&m.Migration)) {
			changed = true
		}
		if !changed {
			return &m.Migration, nil
		}
		if err := consistent(&m.Migration); err != nil {
			return nil, err
		}
		if err := s.follows(ctx, m, &t); err != nil {
			return nil, err
		}
		t.Then = append(t.Then, store.Write{Key: key, Value: encode(m)})
		ok, err := s.commit(ctx, t)
		if err != nil {
			return nil, err
		}
		if ok {
			s.log.Info("migration", "id", id, "state", m.State, "step", m.Step, "owner", m.Host, "reason", m.Reason)
			return s.Migration(ctx, id)
		}
	}
	return nil, errContended
}

// facts are what this server knows beside a migration's record.
func (s *Server) facts(m *api.Migration) facts {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	f := facts{now: s.now().UTC(), listed: true}
	var there []inventory.Device
	if h := s.view.hosts[m.Target]; h != nil && h.Static != "" {
		there = h.own().Devices
	}
	for i := range m.Devices {
		listed := slices.ContainsFunc(there, func(d inventory.Device) bool { return d.ID == m.Devices[i].Target })
		f.listed = f.listed && listed == (m.Devices[i].AtTarget != api.Gone)
	}
	for _, name := range []string{m.Source, m.Target} {
		if h := s.view.hosts[name]; h != nil && h.live.State == api.Reporting {
			f.reporting = append(f.reporting, name)
		}
	}
	return f
}

// follows adds what becomes of a migration's claim.
func (s *Server) follows(ctx context.Context, m *migrationRecord, t *store.Txn) error {
	if m.Claim == "" {
		return nil
	}
	key := store.Key(store.Claim, m.Claim)
	r, err := s.store.Get(ctx, key)
	if err != nil {
		return problem(err)
	}
	if r == nil {
		return fmt.Errorf("migration %s: its claim %s is not there", m.ID, m.Claim)
	}
	c := new(claimRecord)
	if err := decode(r, c); err != nil {
		return fmt.Errorf("read claim %s: %w", m.Claim, err)
	}
	changed := false
	for i := range m.Devices {
		if c.Devices[i].Device != m.Devices[i].Target { // the agent picked a function
			c.Devices[i].Device, changed = m.Devices[i].Target, true
		}
	}
	if c.State == api.Bound && m.State.Over() {
		changed = true
		finish(c, map[api.MigrationState]api.ClaimEnd{api.Completed: api.EndCompleted, api.Aborted: api.EndAborted}[m.State], t)
	}
	proofs, err := m.observed(c, s.now().UTC())
	if err != nil {
		return err
	}
	t.Then = append(t.Then, proofs...)
	if changed {
		t.If = append(t.If, store.Guard{Key: key, Revision: r.Revision})
		t.Then = append(t.Then, store.Write{Key: key, Value: encode(c)})
	}
	return nil
}

// Assignments are what a host has to do, and the channel that is closed when
// that may have changed.
func (s *Server) Assignments(host string) (*api.Assignments, <-chan struct{}) {
	news := s.view.news(host)
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	a := &api.Assignments{Host: host, Revision: s.view.revision, Assignments: []api.Assignment{}}
	for _, id := range slices.Sorted(maps.Keys(s.view.onHost[host])) {
		m := s.view.migrations[id]
		if c := s.view.claims[m.Claim]; c != nil {
			a.Assignments = append(a.Assignments, assignments(&m.Migration, &c.Claim, host)...)
		}
	}
	for _, c := range s.view.canariesOn(host) {
		a.Canaries = append(a.Canaries, c.orders(host)...)
	}
	return a, news
}
