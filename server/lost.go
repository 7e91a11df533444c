// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"kindred/api"
)

// Lost takes somebody's word that a silent host is gone for good, and that nothing
// runs on it any more. No migration waits for it after that, and no claim is for
// it. Nothing is asked of the host itself: its devices are as it was when it went.
func (s *Server) Lost(ctx context.Context, name string) error {
	s.view.mu.RLock()
	h := s.view.hosts[name]
	var held []string
	for id, c := range s.view.claims {
		if c.State == api.Held && (c.Source == name || c.Target == name) {
			held = append(held, id)
		}
	}
	migrations := slices.Sorted(maps.Keys(s.view.onHost[name]))
	s.view.mu.RUnlock()
	switch {
	case h == nil:
		return api.NewProblem(api.NotFound, "no host %q has reported", name)
	case h.live.State == api.Reporting:
		return api.NewProblem(api.HostNeeded, "%s reports: it is not lost", name)
	}
	slices.Sort(held)
	for _, id := range held {
		if _, err := s.Release(ctx, id, 0); err != nil && !errors.Is(err, &api.Problem{Code: api.ClaimBound}) {
			return err
		}
	}
	for _, id := range migrations {
		_, err := s.changeMigration(ctx, id, 0, func(m *migrationRecord, now time.Time) (bool, error) { return lose(&m.Migration, name, now), nil })
		if err != nil {
			return err
		}
	}
	return nil
}

// lose notes that a host that takes part in a migration is lost. What was not
// handed over yet is aborted; what was, only if the target is lost: a VM may run
// there on its way from a lost source.
func lose(m *api.Migration, host string, now time.Time) (changed bool) {
	if m.State.Over() || slices.Contains(m.Lost, host) {
		return false
	}
	m.Lost = append(slices.Clone(m.Lost), host)
	reason := host + " is lost"
	switch m.State {
	case api.Planned:
		enter(m, api.Aborted, now, api.HostLost, reason)
	case api.Claimed, api.Prepared:
		enter(m, api.Aborting, now, api.HostLost, reason)
	case api.HandedOver:
		if host == m.Target {
			enter(m, api.Aborting, now, api.HostLost, reason)
		}
	}
	return true
}

// back takes note that a host which was said to be lost is heard of again: its
// agent's word counts as before, and both are asked anew.
func back(m *api.Migration, f facts) bool {
	heard := func(host string) bool { return slices.Contains(f.reporting, host) }
	if m.State.Over() || !slices.ContainsFunc(m.Lost, heard) {
		return false
	}
	m.Lost = slices.DeleteFunc(slices.Clone(m.Lost), heard)
	restep(m)
	return true
}

// both are what the agents said at both ends. A lost one says nothing: it is
// rid of what it was to be rid of, and has what it was to keep.
func both(m *api.Migration) (source, target ends) {
	source, target = count(m, atSource), count(m, atTarget)
	if slices.Contains(m.Lost, m.Source) {
		source = ends{gone: source.all, all: source.all, lost: true}
	}
	if slices.Contains(m.Lost, m.Target) {
		target = ends{gone: target.all, kept: target.all, all: target.all, lost: true}
	}
	return source, target
}
