// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"kindred/api"
	"kindred/fleet"
	"kindred/server/store"
)

// courses are what this server has in mind for drains. They are worth nothing
// to others: a drain goes on from its records, wherever this server stops.
type courses struct {
	mu sync.Mutex
	of map[string]*course
}

// course is a plan of which some moves are still to be begun.
type course struct {
	revision int64 // of the drain that it was made for; another one makes it void
	moves    []fleet.Move
	// refused are hosts that a claim was refused on though the plan had found
	// room there, each with what was known of it: owner -> host -> revisions.
	refused map[string]map[string][3]int64
	reasons map[string]*api.Problem // the last refusal of each owner
	rest    time.Time               // no plan before it: the last one moved nothing, and took its time
}

// drains carries out what drains there are until the context ends.
func (s *Server) drains(ctx context.Context) {
	if s.config.Sweep < 0 {
		return
	}
	for sleep(ctx, s.config.Sweep) {
		if err := s.carry(ctx, time.Now); err != nil && ctx.Err() == nil {
			s.log.Warn("drains could not be carried out; trying again", "error", err)
		}
	}
}

// CarryDrains does once what there is to do for all drains at this moment.
func (s *Server) CarryDrains(ctx context.Context) error {
	return s.carry(ctx, func() time.Time { return never })
}

// carry goes on with every drain. The clock is for rests between plans alone.
func (s *Server) carry(ctx context.Context, clock func() time.Time) error {
	s.courses.mu.Lock()
	defer s.courses.mu.Unlock()
	var failed error
	open := s.view.openDrains()
	for id := range s.courses.of {
		if !slices.Contains(open, id) {
			delete(s.courses.of, id)
		}
	}
	for _, id := range open {
		c := s.courses.of[id]
		if c == nil {
			c = &course{refused: make(map[string]map[string][3]int64), reasons: make(map[string]*api.Problem)}
			s.courses.of[id] = c
		}
		if err := s.carryDrain(ctx, id, c, clock); err != nil {
			failed = errors.Join(failed, fmt.Errorf("drain %s: %w", id, err))
		}
	}
	return failed
}

func (s *Server) carryDrain(ctx context.Context, id string, c *course, clock func() time.Time) error {
	d := s.view.drain(id)
	switch {
	case d == nil:
		return nil
	case d.State == api.DrainCancelled:
		return s.abortMoves(ctx, d)
	case d.State == api.DrainEmptied:
		return s.upgraded(ctx, d)
	case d.State != api.DrainRunning || s.view.moving(id) >= d.AtOnce:
		return nil
	}
	if c.revision != d.Revision {
		c.moves = nil
	}
	if len(c.moves) == 0 {
		now := clock()
		if now.Before(c.rest) {
			return nil
		}
		f := s.fleet().Within(ctx)
		w := s.view.scene(d, f)
		c.bar(s.view, w.owners)
		plan, err := w.plan(f, d, s.now())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		c.revision, c.moves = d.Revision, plan.Moves
		if len(c.moves) == 0 {
			c.rest = now.Add(10 * clock().Sub(now))
			return s.nothing(ctx, d, w, c.explain(w.left(plan)))
		}
		d.Waiting, d.Staying = plan.Moved, len(plan.Stays)+len(staying(w.settled))
	}
	return s.begin(ctx, d, c)
}

// begin begins as many moves of the course as may be under way.
func (s *Server) begin(ctx context.Context, d *drainRecord, c *course) error {
	for len(c.moves) > 0 && s.view.moving(d.ID) < d.AtOnce {
		m := &c.moves[0]
		next := *d
		next.Idle, next.Waiting, next.Began = time.Time{}, max(d.Waiting-1, 0), d.Began+1
		err := s.beginMove(ctx, &next, m)
		refused, ok := errors.AsType[*api.Problem](err)
		switch {
		case err == nil:
			delete(c.reasons, m.Owner)
			now := s.view.drain(d.ID)
			if now == nil || now.State != next.State || now.Round != next.Round || now.Began != next.Began {
				c.moves = nil
				return nil
			}
			d, c.revision = now, now.Revision
		case errors.Is(err, errElse), errors.Is(err, errContended):
			c.moves = nil // somebody else went on: what is planned is of an earlier moment
			return nil
		case !ok || refused.Code == api.Unavailable:
			return err
		default:
			c.refuse(s.view, m, refused)
			s.log.Info("a move is planned anew", "drain", d.ID, "owner", m.Owner, "target", m.To, "reason", refused.Error())
		}
		c.moves = c.moves[1:]
	}
	return nil
}

// errElse: the drain is not as it was when the move was planned.
var errElse = errors.New("the drain changed meanwhile")

// beginMove does one step: the claim, the migration that has it, and that the
// drain has the migration, in one transaction. As all of a drain's moves change
// its record, there are never more at once than are allowed, and none that was
// planned without the others.
func (s *Server) beginMove(ctx context.Context, d *drainRecord, m *fleet.Move) error {
	req := &api.ClaimRequest{Target: m.To, Policy: d.Policy, Owner: m.Owner, TTL: d.TTL, Proven: d.Proven}
	for _, g := range m.Gets {
		req.Devices = append(req.Devices, m.From+"/"+g.Device)
	}
	id := named(d.By, "")
	_, err := s.claim(ctx, d.By, id, digest(req), req, true, func(c *claimRecord, t *store.Txn) error {
		if now := s.view.drain(d.ID); now == nil || now.Revision != d.Revision || s.view.moving(d.ID) >= d.AtOnce {
			return errElse
		}
		now := s.now().UTC()
		c.State, c.Migration = api.Bound, id
		made := &migrationRecord{Digest: c.Request, Round: d.Round, Migration: api.Migration{
			ID: id, Host: c.Source, Source: c.Source, Target: c.Target, Owner: m.Owner, By: d.By, Claim: c.ID, Drain: d.ID, Created: now, Deadline: c.Deadline,
		}}
		fill(made, c)
		enter(&made.Migration, api.Claimed, now, "", "")
		key, drain := store.Key(store.Migration, id), store.Key(store.Drain, d.ID)
		t.If = append(t.If, store.Guard{Key: key}, store.Guard{Key: drain, Revision: d.Revision})
		t.Then = append(t.Then, store.Write{Key: key, Value: encode(made)}, store.Write{Key: drain, Value: encode(d)})
		return nil
	})
	return err
}

// moving counts a drain's moves that are under way.
func (v *view) moving(id string) int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.tallies[id].moving
}

// about is what is known of a host: while that is the same, it refuses again.
func (v *view) about(host string) [3]int64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if h := v.hosts[host]; h != nil {
		return [3]int64{h.revision, h.liveRevision, v.rooms[host]}
	}
	return [3]int64{}
}

func (c *course) refuse(v *view, m *fleet.Move, why *api.Problem) {
	if c.refused[m.Owner] == nil {
		c.refused[m.Owner] = make(map[string][3]int64)
	}
	c.refused[m.Owner][m.To] = v.about(m.To)
	c.reasons[m.Owner] = why
}

// bar keeps owners from hosts that refused them, as long as these are the same.
func (c *course) bar(v *view, owners []fleet.Owner) {
	for i := range owners {
		o := &owners[i]
		for host, was := range c.refused[o.Name] {
			if v.about(host) == was {
				o.Not = append(o.Not, host)
			} else {
				delete(c.refused[o.Name], host)
			}
		}
	}
}

// explain says of owners that no plan moves any more which refusal it was.
func (c *course) explain(list []api.DrainOwner) []api.DrainOwner {
	for i := range list {
		if why := c.reasons[list[i].Owner]; why != nil && len(c.refused[list[i].Owner]) > 0 {
			list[i].Code, list[i].Reason = string(why.Code), why.Error()
		}
	}
	return list
}

// nothing is done while nothing can be begun: moves under way are waited for,
// then for the world to change, and after a while the wave, or the drain, ends.
func (s *Server) nothing(ctx context.Context, d *drainRecord, w *scene, left []api.DrainOwner) error {
	stay := append(staying(w.settled), left...)
	if w.moving > 0 {
		return nil
	}
	next := *d
	now := s.now().UTC()
	next.Waiting, next.Staying = 0, len(stay)
	switch {
	case len(stay) == 0 && w.open == 0:
	case d.Idle.IsZero():
		next.Idle = now
		_, err := s.writeDrain(ctx, &next, d.Revision)
		return err
	case now.Sub(d.Idle) < s.config.DrainPatience:
		return nil
	}
	next.Stays = append(slices.Clip(d.Stays), stay...)
	next.Stays = next.Stays[:min(len(next.Stays), api.MaxStays)]
	err := s.enterDrain(&next, api.DrainDone)
	if d.Wave > 0 {
		for _, host := range d.wave() {
			if w.busy[host] {
				delete(next.Builds, host) // it is kept as it is, and not waited for
			}
		}
		if len(next.Builds) > 0 {
			err = s.enterDrain(&next, api.DrainEmptied)
		} else {
			err = s.nextWave(&next)
		}
	}
	if err != nil {
		return err
	}
	_, err = s.writeDrain(ctx, &next, d.Revision)
	return err
}

// upgraded goes on to the next wave when the hosts of this one were changed, and
// report again.
func (s *Server) upgraded(ctx context.Context, d *drainRecord) error {
	now := s.view.builds(d.wave())
	for host, was := range d.Builds {
		if now[host] == "" || now[host] == was || !s.view.reports(host) {
			return nil
		}
	}
	next := *d
	if err := s.nextWave(&next); err != nil {
		return err
	}
	_, err := s.writeDrain(ctx, &next, d.Revision)
	return err
}

func (v *view) reports(host string) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	h := v.hosts[host]
	return h != nil && h.live.State == api.Reporting
}

// abortMoves aborts the moves of a drain that was cancelled with them. One that
// was handed over is the VM manager's.
func (s *Server) abortMoves(ctx context.Context, d *drainRecord) error {
	s.view.mu.RLock()
	open := make(map[string]int64)
	for id := range s.view.ofDrain[d.ID] {
		if m := s.view.migrations[id]; m.State == api.Claimed || m.State == api.Prepared {
			open[id] = m.Revision
		}
	}
	s.view.mu.RUnlock()
	var failed error
	for id, revision := range open {
		_, err := s.Abort(ctx, id, revision, api.Abort{Reason: "drain " + d.ID + " was cancelled"})
		if p, ok := errors.AsType[*api.Problem](err); err != nil && (!ok || p.Code != api.RevisionChanged) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}
