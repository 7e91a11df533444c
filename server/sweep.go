// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"kindred/api"
	"kindred/server/store"
)

// sweep looks at deadlines until the context ends.
func (s *Server) sweep(ctx context.Context) {
	if s.config.Sweep < 0 {
		return
	}
	for sleep(ctx, s.config.Sweep) {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("deadlines could not be looked at; trying again", "error", err)
		}
	}
}

// Sweep does once what time brings with it: hosts that fell silent, deadlines
// that passed, steps that another server began, what was over long ago.
func (s *Server) Sweep(ctx context.Context) error {
	s.sweepHosts(ctx)
	now := s.now()
	var lapsed, open, planned, old []string
	s.view.mu.RLock()
	for id, c := range s.view.claims {
		switch {
		case c.State == api.Held && now.After(c.Deadline):
			lapsed = append(lapsed, id)
		case c.State == api.Ended && now.Sub(c.Deadline) > s.config.Keep && s.view.migrations[c.Migration] == nil:
			old = append(old, store.Key(store.Claim, id))
		}
	}
	for id, m := range s.view.migrations {
		switch {
		case m.State.Over():
			if d := s.view.drains[m.Drain]; now.Sub(m.Changed) > s.config.Keep && (d == nil || d.State.Over()) {
				old = append(old, store.Key(store.Migration, id))
			}
		case m.State == api.Planned && !now.After(m.Deadline):
			planned = append(planned, id)
		default:
			open = append(open, id)
		}
	}
	for id, d := range s.view.drains {
		if d.State.Over() && now.Sub(d.Changed) > s.config.Keep && len(s.view.ofDrain[id]) == 0 {
			old = append(old, store.Key(store.Drain, id), store.Key(store.Owners, id))
		}
	}
	s.view.mu.RUnlock()
	oldCanaries, failed := s.sweepCanaries(ctx, now)
	old = append(old, oldCanaries...)
	for _, id := range lapsed {
		failed = errors.Join(failed, s.lapse(ctx, id))
	}
	for _, id := range planned {
		failed = errors.Join(failed, s.claimFor(ctx, id))
	}
	for _, id := range open {
		m, _ := s.migration(id)
		if m == nil || !advance(&m.Migration, s.facts(&m.Migration)) {
			continue
		}
		_, err := s.changeMigration(ctx, id, 0, func(*migrationRecord, time.Time) (bool, error) { return false, nil })
		failed = errors.Join(failed, err)
	}
	failed = errors.Join(failed, s.sweepStatics(ctx, now))
	for part := range slices.Chunk(old, mostWrites) {
		var t store.Txn
		for _, key := range part {
			t.Then = append(t.Then, store.Write{Key: key, Delete: true})
		}
		_, err := s.commit(ctx, t)
		failed = errors.Join(failed, err)
	}
	return failed
}
