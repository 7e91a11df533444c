// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"kindred/api"
	"kindred/compat"
	"kindred/fleet"
)

// Questions over the whole fleet take seconds where it is large. Each is asked
// of the fleet as it was at one moment and holds no lock; few are answered at
// once; and one that nobody waits for any more ends.
const (
	longest  = 2 * time.Minute // for one answer
	turnWait = 2 * time.Second // for a turn

	mostCells = 500_000 // of a matrix, which grows with the square of the hosts
)

// long asks when it has its turn.
func long[T any](ctx context.Context, s *Server, ask func(f *fleet.Fleet) (T, error)) (T, error) {
	var nothing T
	turn := time.NewTimer(turnWait)
	defer turn.Stop()
	select {
	case s.long <- struct{}{}:
		defer func() { <-s.long }()
	case <-turn.C:
		return nothing, api.NewProblem(api.TooBusy, "%d are being answered", cap(s.long))
	case <-ctx.Done():
		return nothing, ctx.Err()
	}
	bounded, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	out, err := ask(s.fleet().Within(bounded))
	switch {
	case ctx.Err() != nil:
		return nothing, ctx.Err()
	case bounded.Err() != nil:
		return nothing, api.NewProblem(api.TooLong, "it was given up after %s", longest)
	case err != nil:
		return nothing, wrong(err)
	}
	return out, nil
}

// wrong is the refusal for a question about what is not there.
func wrong(err error) error {
	e, ok := errors.AsType[*fleet.Error](err)
	switch {
	case !ok:
		return err
	case e.Code == fleet.NotFound:
		return api.NewProblem(api.NotFound, "%v", err)
	case e.Code == fleet.Ambiguous:
		return api.NewProblem(api.Ambiguous, "%v", err)
	}
	return api.NewProblem(api.BadRequest, "%v", err)
}

// heard asks about the hosts that report: in the index those alone are not too
// old, see [Server.Targets].
func (s *Server) heard(f *fleet.Fleet) (*fleet.Fleet, int) { return f.Reporting(s.now(), 1) }

// Matrix answers which hosts can send to which.
func (s *Server) Matrix(ctx context.Context) (*fleet.Matrix, error) {
	return long(ctx, s, func(f *fleet.Fleet) (*fleet.Matrix, error) {
		if n := f.Cells(); n > mostCells {
			return nil, api.NewProblem(api.BadRequest, "a matrix of %d hosts has up to %d cells, and a server answers with %d: ask for targets or reach", f.Hosts(), n, mostCells)
		}
		return f.Matrix(), nil
	})
}

// Reach answers how far all devices reach, with the room that claims leave.
func (s *Server) Reach(ctx context.Context, req *api.ReachRequest) (*fleet.Reach, error) {
	return long(ctx, s, func(f *fleet.Fleet) (*fleet.Reach, error) {
		f, silent := s.heard(f)
		answer := f.Reach(req.Each)
		answer.Silent = silent
		return answer, nil
	})
}

// Choices answers which type keeps a new device most movable.
func (s *Server) Choices(ctx context.Context) (*fleet.Choices, error) {
	return long(ctx, s, func(f *fleet.Fleet) (*fleet.Choices, error) {
		f, silent := s.heard(f)
		answer := f.Choices()
		answer.Silent = silent
		return answer, nil
	})
}

// WhatIf answers whom a change would strand.
func (s *Server) WhatIf(ctx context.Context, req *api.WhatIfRequest) (*fleet.WhatIf, error) {
	if len(req.Changes)+len(req.Add) == 0 && req.Under == nil {
		return nil, api.NewProblem(api.BadRequest, "there is nothing in it that would change")
	}
	suppose := fleet.Supposition{Changes: req.Changes, Add: req.Add}
	for _, inv := range req.Add {
		if inv == nil {
			return nil, api.NewProblem(api.BadRequest, "one of the hosts to be added is null")
		}
		if err := inv.Validate(); err != nil {
			return nil, api.NewProblem(api.BadRequest, "the host to be added: %v", err)
		}
	}
	if req.Under != nil {
		var err error
		if suppose.Engine, err = s.under(req.Under.Catalogs); err != nil {
			return nil, err
		}
	}
	return long(ctx, s, func(f *fleet.Fleet) (*fleet.WhatIf, error) {
		f, silent := s.heard(f)
		answer, err := f.WhatIf(suppose)
		if err != nil {
			return nil, err
		}
		answer.Silent = silent
		return answer, nil
	})
}

// under is an engine with other catalogs of the site and the proofs there are.
func (s *Server) under(texts []api.CatalogText) (*compat.Engine, error) {
	var site []*compat.Catalog
	for _, t := range texts {
		c, err := compat.ParseCatalog(t.Name, []byte(t.Text))
		if err != nil {
			return nil, api.NewProblem(api.BadRequest, "%v", err)
		}
		site = append(site, c)
	}
	catalogs, err := compat.NewCatalogs(compat.BuiltIn(), site)
	if err != nil {
		return nil, api.NewProblem(api.BadRequest, "%v", err)
	}
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	return compat.NewEngine(catalogs, s.view.known()), nil
}

// PlanDrain plans moves that empty some hosts; it moves nothing.
func (s *Server) PlanDrain(ctx context.Context, req *api.DrainRequest) (*fleet.Plan, error) {
	opts, err := s.limits(req)
	if err != nil {
		return nil, err
	}
	return long(ctx, s, func(f *fleet.Fleet) (*fleet.Plan, error) {
		hosts, err := f.Named(req.Hosts)
		if err != nil {
			return nil, err
		}
		return f.Drain(hosts, opts)
	})
}

// PlanRollout plans to empty hosts in turns.
func (s *Server) PlanRollout(ctx context.Context, req *api.RolloutRequest) (*fleet.Rollout, error) {
	opts, err := s.limits(&req.DrainRequest)
	if err != nil {
		return nil, err
	}
	return long(ctx, s, func(f *fleet.Fleet) (*fleet.Rollout, error) {
		hosts, err := f.Named(req.Hosts)
		if err != nil {
			return nil, err
		}
		return f.Rolling(hosts, req.Wave, req.Changes, opts)
	})
}

// MissingProofs answers what proofs would settle all that devices wait for, of
// the hosts that report.
func (s *Server) MissingProofs(ctx context.Context) (*api.MissingProofs, error) {
	s.view.mu.RLock()
	managed := make(map[string]bool, len(s.view.hosts))
	for name, h := range s.view.hosts {
		managed[name] = h.Mode == api.Manage
	}
	s.view.mu.RUnlock()
	return long(ctx, s, func(f *fleet.Fleet) (*api.MissingProofs, error) {
		f, silent := s.heard(f)
		return &api.MissingProofs{Missing: f.CanariesOn(func(host string) bool { return managed[host] }), Silent: silent}, nil
	})
}

func (s *Server) limits(req *api.DrainRequest) (fleet.DrainOptions, error) {
	opts := fleet.DrainOptions{Owners: req.Owners, Policy: req.Policy, AtOnce: req.AtOnce, Proven: req.Proven, Now: s.now(), MaxAge: 1}
	if req.Policy != "" && !slices.Contains(fleet.Policies, req.Policy) {
		return opts, api.NewProblem(api.BadRequest, "unknown policy %q", req.Policy)
	}
	return opts, nil
}

func (s *Server) registerLong(a huma.API) {
	about := func(id, method, path, summary string) huma.Operation {
		o := op(id, method, path, summary)
		o.Errors = append(o.Errors, http.StatusTooManyRequests)
		o.MaxBodyBytes = api.MaxLong
		return o
	}
	do(a, about("matrix", http.MethodGet, api.PathMatrix, "Which hosts can send to which, type by type"), func(ctx context.Context, _ *none) (*fleet.Matrix, error) {
		return s.Matrix(ctx)
	})
	do(a, about("reach", http.MethodPost, api.PathReach, "Where all devices could go now, and which are stranded"), func(ctx context.Context, in *struct{ Body api.ReachRequest }) (*fleet.Reach, error) {
		return s.Reach(ctx, &in.Body)
	})
	do(a, about("choices", http.MethodGet, api.PathChoices, "Which type keeps a new device most movable"), func(ctx context.Context, _ *none) (*fleet.Choices, error) {
		return s.Choices(ctx)
	})
	do(a, about("what-if", http.MethodPost, api.PathWhatIf, "Whom a change would strand or free, and which canaries would settle what is unknown"), func(ctx context.Context, in *struct{ Body api.WhatIfRequest }) (*fleet.WhatIf, error) {
		return s.WhatIf(ctx, &in.Body)
	})
	do(a, about("missing-proofs", http.MethodGet, api.PathMissing, "Which proofs would settle all that devices wait for"), func(ctx context.Context, _ *none) (*api.MissingProofs, error) {
		return s.MissingProofs(ctx)
	})
	do(a, about("plan-drain", http.MethodPost, api.PathDrain, "A plan that moves every owner off some hosts; it moves nothing"), func(ctx context.Context, in *struct{ Body api.DrainRequest }) (*fleet.Plan, error) {
		return s.PlanDrain(ctx, &in.Body)
	})
	do(a, about("plan-rollout", http.MethodPost, api.PathRollout, "A plan that empties hosts in turns; it moves nothing"), func(ctx context.Context, in *struct{ Body api.RolloutRequest }) (*fleet.Rollout, error) {
		return s.PlanRollout(ctx, &in.Body)
	})
}
