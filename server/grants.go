// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

	"kindred/api"
	"kindred/inventory"
)

// What an agent's certificate allows beside its own host's report: a host takes
// part in migrations that concern it, so that its VM manager needs no
// administrator's certificate. docs/agents.md has the list.

// hostOf is the host for which who asks may speak alone; empty: an administrator,
// for whom nothing is left out.
func hostOf(ctx context.Context) string {
	if id := who(ctx); !id.Admin {
		return id.Host
	}
	return ""
}

// known refuses who is neither an administrator nor an agent.
func known(ctx context.Context) error {
	if id := who(ctx); !id.Admin && id.Host == "" {
		return api.NewProblem(api.Forbidden, "%s is neither an administrator nor a host", id.Name)
	}
	return nil
}

// mayBegin: a host may have devices come to itself, that a VM uses at this moment,
// and take no unknown upon itself.
func (s *Server) mayBegin(ctx context.Context, req *api.MigrationRequest) error {
	if err := known(ctx); err != nil {
		return err
	}
	host := hostOf(ctx)
	switch {
	case host == "":
		return nil
	case len(req.Accept) > 0:
		return api.NewProblem(api.Forbidden, "%s may accept no unknown: claim the devices as an administrator, for this owner and target", who(ctx).Name)
	case req.Claim != "":
		c, err := s.Claim(ctx, req.Claim)
		if err != nil {
			return err
		}
		if c.Target != host {
			return api.NewProblem(api.Forbidden, "claim %s is for %s, and not for %s", c.ID, c.Target, host)
		}
		return s.used(c.Source, sourceIDs(c))
	case req.Target != host:
		return api.NewProblem(api.Forbidden, "%s may begin migrations to itself alone", who(ctx).Name)
	}
	s.view.mu.RLock()
	source, devices, err := s.view.sources(req.Devices)
	s.view.mu.RUnlock()
	if err != nil {
		return err
	}
	var ids []string
	for _, d := range devices {
		ids = append(ids, d.ID)
	}
	return s.used(source.Host.Name, ids)
}

func sourceIDs(c *api.Claim) (ids []string) {
	for i := range c.Devices {
		ids = append(ids, c.Devices[i].Source)
	}
	return ids
}

// used refuses devices that no process has open: nothing runs on them that could
// be live-migrated, and a host must not take them from another one.
func (s *Server) used(host string, ids []string) error {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	inv := s.view.inventory(host)
	for _, id := range ids {
		if inv == nil || inv.Device(id) == nil {
			return api.NewProblem(api.NotFound, "device %s is not on %s any more", id, host)
		}
		if use := inv.Device(id).InUse; use != inventory.Yes {
			return api.NewProblem(api.NotInUse, "device %s of %s: in use is %q, as its host reported last", id, host, use)
		}
	}
	return nil
}

// maySee: both ends of a migration may read it, and abort it.
func (s *Server) maySee(ctx context.Context, id string) error {
	return s.takesPart(ctx, id, func(m *api.Migration, host string) bool { return m.Target == host || m.Source == host })
}

// mayTake: the target's host may take the devices, and say that the VM runs.
func (s *Server) mayTake(ctx context.Context, id string) error {
	return s.takesPart(ctx, id, func(m *api.Migration, host string) bool { return m.Target == host })
}

func (s *Server) takesPart(ctx context.Context, id string, part func(*api.Migration, string) bool) error {
	if err := known(ctx); err != nil {
		return err
	}
	host := hostOf(ctx)
	if host == "" {
		return nil
	}
	m, err := s.Migration(ctx, id)
	if err != nil {
		return err
	}
	if !part(m, host) {
		return api.NewProblem(api.Forbidden, "%s has no such part in migration %s", who(ctx).Name, id)
	}
	return nil
}
