// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"kindred/api"
	"kindred/compat"
	"kindred/compat/proofs"
	"kindred/fleet"
	"kindred/server/store"
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

// Matrix answers which hosts can send to which.
func (s *Server) Matrix() *fleet.Matrix { return s.fleet().Matrix() }

func (s *Server) fleet() *fleet.Fleet { return s.view.index.Load().Fleet() }

// Health is how this server is.
func (s *Server) Health() *api.Health {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	return &api.Health{Version: s.config.Version, Hosts: len(s.view.hosts), Revision: s.view.revision}
}

// AddProofs keeps proofs that a trusted key signed. They count from then on.
func (s *Server) AddProofs(ctx context.Context, f *proofs.File) error {
	if len(f.Proofs) == 0 {
		return api.NewProblem(api.BadRequest, "there is no proof in it")
	}
	if _, ok := f.Trusted(s.config.ProofKeys); !ok {
		return api.NewProblem(api.Forbidden, "no key that this server trusts signed it")
	}
	w, err := keep(f)
	if err != nil {
		return err
	}
	_, err = s.commit(ctx, store.Txn{Then: []store.Write{w}})
	return err
}

// keep is the record of some proofs: the same file is kept once.
func keep(f *proofs.File) (store.Write, error) {
	data, err := f.Encode()
	if err != nil {
		return store.Write{}, fmt.Errorf("keep proofs: %w", err)
	}
	sum := sha256.Sum256(data)
	p := &f.Proofs[0]
	name := fmt.Sprintf("%s/%s-%x", p.Key(), p.Time.UTC().Format("20060102T150405"), sum[:4])
	return store.Write{Key: store.Key(store.Proof, name), Value: data}, nil
}

// Proofs lists all that count, by what they are about.
func (s *Server) Proofs() *proofs.File {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	f := &proofs.File{Schema: proofs.Schema, Signatures: []proofs.Signature{}}
	for _, name := range slices.Sorted(maps.Keys(s.view.proofs)) {
		f.Proofs = append(f.Proofs, s.view.proofs[name]...)
	}
	return f
}

// observed are the proofs that a migration's end makes.
func (m *migrationRecord) observed(c *claimRecord, now time.Time) ([]store.Write, error) {
	var list []store.Write
	for i := range c.Devices {
		if m.result == "" || c.Devices[i].Proof == nil {
			continue
		}
		p := *c.Devices[i].Proof
		p.Grade, p.Result, p.Tries, p.Time, p.Detail = compat.Observed, m.result, 1, now.Truncate(time.Second), m.detail
		w, err := keep(&proofs.File{Proofs: []compat.Proof{p}})
		if err != nil {
			return nil, err
		}
		// Devices of one type that moved between the same builds prove the same.
		if !slices.ContainsFunc(list, func(o store.Write) bool { return o.Key == w.Key }) {
			list = append(list, w)
		}
	}
	return list, nil
}
