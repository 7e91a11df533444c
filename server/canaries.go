// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"kindred/api"
	"kindred/compat"
	"kindred/compat/proofs"
	"kindred/inventory"
	"kindred/server/store"
	"kindred/trust"
)

// CreateCanary orders that a transfer be proved, and holds room for its canaries
// on both hosts. The same request with the same key is answered with the order
// that it made before.
func (s *Server) CreateCanary(ctx context.Context, by, key string, req api.CanaryRequest) (*api.Canary, error) {
	if req.TTL.Of() < 0 || req.TTL.Of() > s.config.MaxTTL {
		return nil, api.NewProblem(api.BadRequest, "a canary order holds room for at most %s", s.config.MaxTTL)
	}
	if req.TTL == 0 {
		req.TTL = api.Duration(s.config.TTL)
	}
	if req.Tries == 0 {
		req.Tries = 2
	}
	if req.Tries < 2 || req.Tries > 1000 {
		return nil, api.NewProblem(api.BadRequest, "a transfer is tried from 2 to 1000 times")
	}
	id, sum := named(by, key), digest(req)
	ckey := store.Key(store.Canary, id)
	check := s.refusals(ckey)
	for range tries {
		s.view.mu.RLock()
		known := s.view.canaries[id]
		s.view.mu.RUnlock()
		if known != nil {
			if known.Request != sum {
				return nil, api.NewProblem(api.KeyReused, "it made canary order %s", id)
			}
			return &known.Canary, nil
		}
		c := &canaryRecord{Request: sum}
		check.seen = s.view.current()
		guards, err := s.view.planCanary(c, &req)
		if err != nil {
			var rests *plan // on all there is, where a host is not known
			if len(guards) > 0 {
				rests = &plan{guards: guards}
			}
			if again, err := check.stands(ctx, rests, err); !again {
				return nil, err
			}
			continue
		}
		now := s.now().UTC()
		c.ID, c.By, c.Tries, c.State, c.Created, c.Changed, c.Deadline = id, by, req.Tries, api.CanaryOrdered, now, now, now.Add(req.TTL.Of())
		c.anew()
		t := store.Txn{If: append(guards, store.Guard{Key: ckey}), Then: []store.Write{{Key: ckey, Value: encode(c)}}}
		touchBoth(c, &t)
		ok, err := s.commit(ctx, t)
		if err != nil {
			return nil, err
		}
		if ok {
			return s.Canary(ctx, id)
		}
	}
	return nil, errContended
}

// touchBoth changes the room keys of an order's hosts.
func touchBoth(c *canaryRecord, t *store.Txn) {
	t.Then = append(t.Then, touch(c.From.Host))
	if c.To.Host != c.From.Host {
		t.Then = append(t.Then, touch(c.To.Host))
	}
}

// planCanary judges a request, and fills the record's ends in. It returns what
// has to stay so meanwhile, also for a refusal.
func (v *view) planCanary(c *canaryRecord, req *api.CanaryRequest) ([]store.Guard, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var guards []store.Guard
	spaces := make(map[string]*space)
	place := func(spot *api.CanarySpot, typ string, not *compat.Offer) (*compat.Offer, error) {
		h, inv := v.hosts[spot.Host], v.inventory(spot.Host)
		if inv == nil {
			return nil, api.NewProblem(api.NotFound, "no host %q has reported", spot.Host)
		}
		if spaces[spot.Host] == nil {
			guards = append(guards,
				store.Guard{Key: store.Key(store.Room, spot.Host), Revision: v.rooms[spot.Host]},
				store.Guard{Key: store.Key(store.Host, spot.Host), Revision: h.revision},
				store.Guard{Key: store.Key(store.Live, spot.Host), Revision: h.liveRevision})
			spaces[spot.Host] = newSpace(v.engine, inv, v.openOn(spot.Host), v.canariesOn(spot.Host))
		}
		switch {
		case h.live.State != api.Reporting:
			return nil, api.NewProblem(api.HostSilent, "%s, since %s", spot.Host, h.live.Since.UTC().Format(time.RFC3339))
		case h.Mode != api.Manage:
			return nil, api.NewProblem(api.HostObserves, "%s: canaries are devices", spot.Host)
		}
		return spaces[spot.Host].spot(v.engine, spot, typ, not)
	}
	toType := req.ToType
	if toType == "" {
		toType = req.Type
	}
	from, err := place(&req.From, req.Type, nil)
	if err != nil {
		return guards, err
	}
	to, err := place(&req.To, toType, from)
	if err != nil {
		return guards, err
	}
	source := v.engine.Instance(from)
	if !v.engine.Related(source, to) {
		return guards, api.NewProblem(api.NotCompatible, "%s and %s are different types, and no catalog declares them equivalent", req.Type, toType)
	}
	if _, err := v.engine.About(source, to); err != nil {
		return guards, api.NewProblem(api.BuildUnknown, "%v", err)
	}
	c.From, c.To = endOf(from), endOf(to)
	return guards, nil
}

func endOf(o *compat.Offer) api.CanaryEnd {
	return api.CanaryEnd{Host: o.Host(), Parent: o.Parent(), Type: o.Type().TypeName, Build: o.Build().ID}
}

// spot takes room for one canary: on the parent that is named, or the first that
// has some and is not the other end.
func (s *space) spot(engine *compat.Engine, spot *api.CanarySpot, typ string, not *compat.Offer) (*compat.Offer, error) {
	offers := engine.Offers(s.inv)
	var found, second []int // of offers; the second choice is the other end itself
	functions := false
	for n, o := range offers {
		switch p := s.inv.Parent(o.Parent()); {
		case o.Type().Full() != typ, spot.Parent != "" && spot.Parent != o.Parent():
		case p.Kind != inventory.MdevParent:
			functions = true
		case not != nil && not.Host() == o.Host() && not.Parent() == o.Parent() && not.Type().TypeName == o.Type().TypeName:
			second = append(second, n)
		default:
			found = append(found, n)
		}
	}
	where := spot.Host
	if spot.Parent != "" {
		where += ": " + spot.Parent
	}
	switch found = append(found, second...); {
	case len(found) == 0 && functions:
		return nil, api.NewProblem(api.NotOffered, "%s offers %s by functions, which are not made and unmade at will: a canary is a mediated device", where, typ)
	case len(found) == 0:
		return nil, api.NewProblem(api.NotOffered, "%s: %s", where, typ)
	case engine.Policy(offers[found[0]].Type().TypeName).Canaries == compat.CanariesUnsafe:
		return nil, api.NewProblem(api.CanariesUnsafe, "%s", typ)
	}
	for _, n := range found {
		p, t := s.find(offers[n].Parent(), offers[n].Type().TypeName)
		if s.lefts[p].Fits(t) {
			s.lefts[p].Take(t)
			return offers[n], nil
		}
	}
	return nil, api.NewProblem(api.NoRoom, "%s has no room for a canary of %s", where, typ)
}

// canariesOn are the orders that hold room on a host, by id.
func (v *view) canariesOn(host string) []*canaryRecord {
	var list []*canaryRecord
	for _, id := range slices.Sorted(maps.Keys(v.onCanary[host])) {
		list = append(list, v.canaries[id])
	}
	return list
}

// Canary is one order as it is in the store at this moment.
func (s *Server) Canary(ctx context.Context, id string) (*api.Canary, error) {
	c, err := s.readCanary(ctx, id)
	if err != nil {
		return nil, err
	}
	return &c.Canary, nil
}

func (s *Server) readCanary(ctx context.Context, id string) (*canaryRecord, error) {
	r, err := s.read(ctx, store.Canary, id)
	if err != nil {
		return nil, err
	}
	c := new(canaryRecord)
	if err := decode(r, c); err != nil {
		return nil, fmt.Errorf("read canary order %s: %w", id, err)
	}
	c.Revision = r.Revision
	return c, nil
}

// Canaries lists orders by id.
func (s *Server) Canaries(after string, limit int, all bool) *api.Canaries {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	page := &api.Canaries{Canaries: []api.Canary{}, Revision: s.view.revision}
	open := make(map[string]*canaryRecord)
	for id, c := range s.view.canaries {
		if all || !c.State.Over() {
			open[id] = c
		}
	}
	for _, id := range pageOf(open, after, limit, &page.Next) {
		page.Canaries = append(page.Canaries, open[id].Canary)
	}
	return page
}

// CancelCanary ends an order. One that is over stays as it ended.
func (s *Server) CancelCanary(ctx context.Context, id string, match int64, by string) (*api.Canary, error) {
	return s.changeCanary(ctx, id, match, func(c *canaryRecord, now time.Time) (bool, error) {
		if c.State.Over() {
			return false, nil
		}
		c.over(api.CanaryCancelled, "", "cancelled by "+by, now)
		return true, nil
	})
}

// CanaryWord takes what an agent says of one end.
func (s *Server) CanaryWord(ctx context.Context, host string, by trust.Identity, w *api.CanaryWord) error {
	_, err := s.changeCanary(ctx, w.Canary, 0, func(c *canaryRecord, now time.Time) (bool, error) {
		return c.hear(host, w, by, now)
	})
	if errors.Is(err, &api.Problem{Code: api.NotFound}) {
		return api.NewProblem(api.WrongState, "canary order %s is no more", w.Canary)
	}
	return err
}

// changeCanary reads, changes and writes an order until all was of one moment.
// What both agents' words amount to is written with the last of them, and so is
// its proof.
func (s *Server) changeCanary(ctx context.Context, id string, match int64, change func(*canaryRecord, time.Time) (bool, error)) (*api.Canary, error) {
	key := store.Key(store.Canary, id)
	for range tries {
		c, err := s.readCanary(ctx, id)
		if err != nil {
			return nil, err
		}
		if match != 0 && c.Revision != match {
			return nil, api.NewProblem(api.RevisionChanged, "canary order %s is at revision %d", id, c.Revision)
		}
		t := store.Txn{If: []store.Guard{{Key: key, Revision: c.Revision}}}
		now, clear := s.now().UTC(), [2]bool{c.From.Clear, c.To.Clear}
		changed, err := change(c, now)
		if err != nil {
			return nil, err
		}
		if !changed {
			return &c.Canary, nil
		}
		s.view.mu.RLock()
		engine := s.view.engine
		s.view.mu.RUnlock()
		if p := c.settle(engine, now); p != nil {
			w, err := keep(&proofs.File{Proofs: []compat.Proof{*p}})
			if err != nil {
				return nil, err
			}
			c.Proof = w.Key[len(store.Proof)+1:]
			t.Then = append(t.Then, w)
		}
		if clear != [2]bool{c.From.Clear, c.To.Clear} {
			touchBoth(c, &t) // room came free
		}
		t.Then = append(t.Then, store.Write{Key: key, Value: encode(c)})
		ok, err := s.commit(ctx, t)
		if err != nil {
			return nil, err
		}
		if ok {
			s.log.Info("canary order", "id", id, "state", c.State, "step", c.Step, "source", c.From.Phase, "target", c.To.Phase, "reason", c.Reason)
			return s.Canary(ctx, id)
		}
	}
	return nil, errContended
}

// maxCanaryWord is the longest word of an agent: a record with both agents' has
// to fit into the store.
const maxCanaryWord = 512 << 10

// sweepCanaries ends orders that time, a silent host or a revoked certificate
// has ended, and returns what was over long ago.
func (s *Server) sweepCanaries(ctx context.Context, now time.Time) (old []string, failed error) {
	type ended struct {
		id     string
		code   api.Code
		reason string
	}
	var list []ended
	s.view.mu.RLock()
	for id, c := range s.view.canaries {
		if c.State.Over() {
			if now.Sub(c.Changed) > s.config.Keep {
				old = append(old, store.Key(store.Canary, id))
			}
			continue
		}
		if code, reason := s.view.hopeless(c, now); code != "" {
			list = append(list, ended{id, code, reason})
		}
	}
	s.view.mu.RUnlock()
	for _, e := range list {
		_, err := s.changeCanary(ctx, e.id, 0, func(c *canaryRecord, now time.Time) (bool, error) {
			if c.State.Over() {
				return false, nil
			}
			c.over(api.CanaryFailed, e.code, e.reason, now)
			return true, nil
		})
		failed = errors.Join(failed, err)
	}
	return old, failed
}

// hopeless says why an order cannot be carried out any more; empty while it can.
func (v *view) hopeless(c *canaryRecord, now time.Time) (api.Code, string) {
	if now.After(c.Deadline) {
		return api.DeadlinePassed, "it was not done until " + c.Deadline.Format(time.RFC3339)
	}
	for _, role := range []api.CanaryRole{api.CanarySource, api.CanaryTarget} {
		if role == api.CanarySource && c.reached(role, api.CanarySent) {
			continue // it has done its part
		}
		end, half := c.end(role)
		h := v.hosts[end.Host]
		peer := trust.Identity{Role: trust.Host, Name: end.Host, Serial: half.Serial, Issued: half.Issued}
		switch {
		case h == nil || h.live.State != api.Reporting:
			return api.HostSilent, end.Host + " does not report any more"
		case h.Mode != api.Manage:
			return api.HostObserves, end.Host + ": its agent observes now"
		case half.Serial != "" && v.ended(peer) != nil:
			return api.Unauthorized, end.Host + ": the certificate of its agent was revoked"
		}
	}
	return "", ""
}

func (s *Server) registerCanaries(a huma.API) {
	do(a, op("create-canary", http.MethodPost, api.PathCanaries, "Order that a transfer between two hosts be proved by canaries"), func(ctx context.Context, in *struct {
		Keyed
		Body api.CanaryRequest
	}) (*api.Canary, error) {
		return s.CreateCanary(ctx, who(ctx).Name, in.Key, in.Body)
	})
	get(a, "list-canaries", api.PathCanaries, "Canary orders, by id", func(_ context.Context, in *Listed) (*api.Canaries, error) {
		return s.Canaries(in.After, in.Limit, in.All), nil
	})
	get(a, "show-canary", api.PathCanary, "One canary order", func(ctx context.Context, in *OneOf) (*api.Canary, error) { return s.Canary(ctx, in.ID) })
	do(a, op("cancel-canary", http.MethodDelete, api.PathCanary, "End a canary order: the agents remove what they made"), func(ctx context.Context, in *OneOf) (*api.Canary, error) {
		match, err := in.match()
		if err != nil {
			return nil, err
		}
		return s.CancelCanary(ctx, in.ID, match, who(ctx).Name)
	})
	o := op("canary-word", http.MethodPost, api.PathCanaryWord, "What an agent says of one end of a canary order")
	o.SkipValidateBody = true // an agent that is newer may say more
	o.MaxBodyBytes = maxCanaryWord
	huma.Register(a, o, func(ctx context.Context, in *struct {
		NameOf
		Body api.CanaryWord
	}) (*none, error) {
		_, err := speak(ctx, in.Name, func() (none, error) { return none{}, s.CanaryWord(ctx, in.Name, who(ctx).peer, &in.Body) })
		return nil, err
	})
}
