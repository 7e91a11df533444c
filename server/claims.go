// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"kindred/api"
	"kindred/server/store"
)

// named makes the id of what a request makes: of the caller's key where there is
// one, so that the same request makes it once.
func named(by, key string) string {
	if key == "" {
		return strings.ToLower(rand.Text()[:16])
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", by, key))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:16])
}

func digest(req any) string { return fmt.Sprintf("%x", sha256.Sum256(encode(req))) }

// check refuses requests that make no sense, and fills in what is left open.
func (s *Server) check(req *api.ClaimRequest, by string) error {
	if req.TTL.Of() < 0 || req.TTL.Of() > s.config.MaxTTL {
		return api.NewProblem(api.BadRequest, "a claim holds room for at most %s", s.config.MaxTTL)
	}
	if req.TTL == 0 {
		req.TTL = api.Duration(s.config.TTL)
	}
	for i := range req.Accept {
		a := &req.Accept[i]
		if a.Code == "" || strings.TrimSpace(a.Reason) == "" {
			return api.NewProblem(api.BadRequest, "an unknown is accepted by its code, with a reason")
		}
		if !a.Until.IsZero() && !a.Until.After(s.now()) {
			return api.NewProblem(api.BadRequest, "the acceptance of %s ended on %s", a.Code, a.Until.UTC().Format(time.RFC3339))
		}
		a.By = by
	}
	return nil
}

// CreateClaim holds room for all devices, or says why not. The same request
// with the same key is answered with the claim that it made before.
func (s *Server) CreateClaim(ctx context.Context, by, key string, req api.ClaimRequest) (*api.Claim, error) {
	if err := s.check(&req, by); err != nil {
		return nil, err
	}
	id := named(by, key)
	c, err := s.claim(ctx, by, id, digest(req), &req, false, nil)
	if err != nil {
		return nil, err
	}
	return &c.Claim, nil
}

// extend adds to a claim's transaction: what else becomes so with it.
type extend func(c *claimRecord, t *store.Txn) error

// claim judges and writes until both were of one moment.
func (s *Server) claim(ctx context.Context, by, id, digest string, req *api.ClaimRequest, manage bool, more extend) (*claimRecord, error) {
	if req.Target != "" {
		defer s.turns.take(req.Target)()
	}
	key := store.Key(store.Claim, id)
	check := s.refusals(key)
	for range tries {
		s.view.mu.RLock()
		known := s.view.claims[id]
		s.view.mu.RUnlock()
		if known != nil {
			if known.Request != digest {
				return nil, api.NewProblem(api.KeyReused, "it made claim %s", id)
			}
			return known, nil
		}
		check.seen = s.view.current()
		p, err := s.view.plan(ctx, req, s.now(), manage)
		if err != nil {
			if again, err := check.stands(ctx, p, err); !again {
				return nil, err
			}
			continue
		}
		now := s.now().UTC()
		c := &claimRecord{Claim: p.claim, Request: digest}
		c.ID, c.By, c.Created = id, by, now
		c.until(now.Add(req.TTL.Of()))
		t := store.Txn{If: append(p.guards, store.Guard{Key: key})}
		if more != nil {
			if err := more(c, &t); err != nil {
				return nil, err
			}
		}
		t.Then = append(t.Then, store.Write{Key: key, Value: encode(c)}, touch(c.Target))
		for i := range c.Devices {
			t.Then = append(t.Then, store.Write{Key: store.Key(store.Device, c.Source+"/"+c.Devices[i].Source), Value: []byte(id)})
		}
		ok, err := s.commit(ctx, t)
		if err != nil {
			return nil, err
		}
		if ok {
			s.view.mu.RLock()
			defer s.view.mu.RUnlock()
			if made := s.view.claims[id]; made != nil {
				return made, nil
			}
			return c, nil // and it ended already
		}
	}
	return nil, errContended
}

// until sets the deadline. A claim ends no later than what was accepted for it.
func (c *claimRecord) until(deadline time.Time) {
	c.Deadline = deadline
	for _, a := range c.Accepted {
		if !a.Until.IsZero() && a.Until.Before(c.Deadline) {
			c.Deadline = a.Until
		}
	}
}

// touch changes a host's room key, so that whoever judged the host before has
// to look again.
func touch(host string) store.Write {
	return store.Write{Key: store.Key(store.Room, host), Value: []byte{}}
}

// refusals finds out whether a refusal rests on how things are, or on what this
// server has seen last: then it is to be judged again.
type refusals struct {
	*Server
	key   string // of what would be made
	seen  int64  // the revision that was judged by
	fresh bool   // this server had seen all there was after the request came
}

func (s *Server) refusals(key string) *refusals { return &refusals{Server: s, key: key} }

func (r *refusals) stands(ctx context.Context, p *plan, refused error) (again bool, err error) {
	refusal, ok := errors.AsType[*api.Problem](refused)
	switch {
	case !ok || refusal.Code == api.BadRequest:
		return false, refused
	case p == nil || refusal.Code == api.NoTarget: // it rests on all there is: no guard is for that
		if r.fresh {
			return false, refused
		}
		r.fresh = true
		had, err := r.catchUp(ctx, r.seen)
		if err == nil && had {
			err = refused
		}
		return err == nil, err
	}
	_, ok, err = r.store.Commit(ctx, store.Txn{If: append(p.guards, store.Guard{Key: r.key})})
	if err != nil {
		return false, problem(err)
	}
	if ok {
		return false, refused
	}
	select {
	case <-r.view.changed():
	case <-time.After(retryAfter / 5):
	case <-ctx.Done():
		return false, ctx.Err()
	}
	return true, nil
}

// Claim is one claim as it is in the store at this moment.
func (s *Server) Claim(ctx context.Context, id string) (*api.Claim, error) {
	r, err := s.read(ctx, store.Claim, id)
	if err != nil {
		return nil, err
	}
	c := new(claimRecord)
	if err := decode(r, c); err != nil {
		return nil, fmt.Errorf("read claim %s: %w", id, err)
	}
	c.at(r)
	return &c.Claim, nil
}

// Claims lists claims by id.
func (s *Server) Claims(after string, limit int, all bool) *api.Claims {
	return s.claims("", &Listed{Page{after, limit}, all})
}

// claims lists those that hold room on a host; empty: on all.
func (s *Server) claims(host string, in *Listed) *api.Claims {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	page := &api.Claims{Claims: []api.Claim{}, Revision: s.view.revision}
	open := make(map[string]*claimRecord)
	for id, c := range s.view.claims {
		if (in.All || c.State != api.Ended) && (host == "" || c.Target == host) {
			open[id] = c
		}
	}
	for _, id := range pageOf(open, in.After, in.Limit, &page.Next) {
		page.Claims = append(page.Claims, open[id].Claim)
	}
	return page
}

// Renew moves a claim's deadline, and that of the migration it is bound to.
func (s *Server) Renew(ctx context.Context, id string, match int64, ttl time.Duration) (*api.Claim, error) {
	if ttl < 0 || ttl > s.config.MaxTTL {
		return nil, api.NewProblem(api.BadRequest, "a claim holds room for at most %s", s.config.MaxTTL)
	}
	if ttl == 0 {
		ttl = s.config.TTL
	}
	return s.changeClaim(ctx, id, match, func(c *claimRecord, t *store.Txn) error {
		now := s.now().UTC()
		switch {
		case c.State == api.Ended:
			return api.NewProblem(api.ClaimEnded, "claim %s was %s", id, c.End)
		case now.After(c.Deadline):
			return api.NewProblem(api.DeadlinePassed, "claim %s held room until %s", id, c.Deadline.Format(time.RFC3339))
		}
		c.until(now.Add(ttl))
		if c.State == api.Bound {
			m, revision := s.migration(c.Migration)
			if m == nil || m.State.Over() || m.State == api.Aborting || m.State == api.Completing {
				return api.NewProblem(api.ClaimBound, "claim %s ends with migration %s", id, c.Migration)
			}
			m.Deadline = c.Deadline
			t.If = append(t.If, store.Guard{Key: store.Key(store.Migration, m.ID), Revision: revision})
			t.Then = append(t.Then, store.Write{Key: store.Key(store.Migration, m.ID), Value: encode(m)})
		}
		return nil
	})
}

// Release gives room back. One that was given back is given back.
func (s *Server) Release(ctx context.Context, id string, match int64) (*api.Claim, error) {
	return s.endClaim(ctx, id, match, api.EndReleased)
}

// lapse ends a claim whose deadline passed, if it still has.
func (s *Server) lapse(ctx context.Context, id string) error {
	_, err := s.endClaim(ctx, id, 0, api.EndLapsed)
	return err
}

var errNothing = errors.New("nothing is to be changed")

func (s *Server) endClaim(ctx context.Context, id string, match int64, end api.ClaimEnd) (*api.Claim, error) {
	return s.changeClaim(ctx, id, match, func(c *claimRecord, t *store.Txn) error {
		switch {
		case c.State == api.Ended:
			return errNothing
		case c.State == api.Bound:
			return api.NewProblem(api.ClaimBound, "claim %s by migration %s", id, c.Migration)
		case end == api.EndLapsed && !s.now().After(c.Deadline):
			return errNothing
		}
		finish(c, end, t)
		return nil
	})
}

// finish ends a claim in a transaction: its room, and its devices, are free
// with it.
func finish(c *claimRecord, end api.ClaimEnd, t *store.Txn) {
	c.State, c.End = api.Ended, end
	t.Then = append(t.Then, touch(c.Target))
	for i := range c.Devices {
		t.Then = append(t.Then, store.Write{Key: store.Key(store.Device, c.Source+"/"+c.Devices[i].Source), Delete: true})
	}
}

// changeClaim reads, changes and writes a claim until all was of one moment.
func (s *Server) changeClaim(ctx context.Context, id string, match int64, change func(*claimRecord, *store.Txn) error) (*api.Claim, error) {
	key := store.Key(store.Claim, id)
	for range tries {
		r, err := s.read(ctx, store.Claim, id)
		if err != nil {
			return nil, err
		}
		if match != 0 && r.Revision != match {
			return nil, api.NewProblem(api.RevisionChanged, "claim %s is at revision %d", id, r.Revision)
		}
		c := new(claimRecord)
		if err := decode(r, c); err != nil {
			return nil, fmt.Errorf("read claim %s: %w", id, err)
		}
		c.at(r)
		t := store.Txn{If: []store.Guard{{Key: key, Revision: r.Revision}}}
		switch err := change(c, &t); {
		case errors.Is(err, errNothing):
			return &c.Claim, nil
		case err != nil:
			return nil, err
		}
		t.Then = append(t.Then, store.Write{Key: key, Value: encode(c)})
		ok, err := s.commit(ctx, t)
		if err != nil {
			return nil, err
		}
		if ok {
			return s.Claim(ctx, id)
		}
	}
	return nil, errContended
}
