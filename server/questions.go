// SPDX-License-Identifier: Apache-2.0

package server

import (
	"slices"

	"kindred/api"
	"kindred/fleet"
)

// Targets answers where a device can go, with the room that claims leave.
//
// In the index a host that is heard of has a time that never is too old, and one
// that is not has the time when it was heard last; so the shortest age puts
// exactly those that do not report among those that do not.
func (s *Server) Targets(req *api.TargetsRequest) (*fleet.Targets, error) {
	if req.Policy != "" && !slices.Contains(fleet.Policies, req.Policy) {
		return nil, api.NewProblem(api.BadRequest, "unknown policy %q", req.Policy)
	}
	f := s.fleet()
	source, err := f.Source(req.Device)
	if err != nil {
		return nil, notFound(err)
	}
	return f.Targets(source, fleet.Options{
		Now: s.now(), MaxAge: 1, Policy: req.Policy, Limit: req.Limit, Others: req.Others, Reasons: req.Reasons,
	}), nil
}

// Joint answers where all devices of one owner can go together.
func (s *Server) Joint(req *api.JointRequest) (*fleet.Joint, error) {
	if req.Policy != "" && !slices.Contains(fleet.Policies, req.Policy) {
		return nil, api.NewProblem(api.BadRequest, "unknown policy %q", req.Policy)
	}
	f := s.fleet()
	var sources []*fleet.Source
	for _, ref := range req.Devices {
		source, err := f.Source(ref)
		if err != nil {
			return nil, notFound(err)
		}
		sources = append(sources, source)
	}
	answer, err := f.Joint(sources, fleet.Options{Now: s.now(), MaxAge: 1, Policy: req.Policy, Limit: req.Limit, Reasons: req.Reasons})
	if err != nil {
		return nil, notFound(err)
	}
	return answer, nil
}

func (s *Server) fleet() *fleet.Fleet { return s.view.index.Load().Fleet() }

// Health is how this server is.
func (s *Server) Health() *api.Health {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	return &api.Health{Version: s.config.Version, Hosts: len(s.view.hosts), Revision: s.view.revision}
}
