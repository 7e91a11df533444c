// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"kindred/api"
	"kindred/fleet"
	"kindred/server/store"
)

// drainRecord is what is stored of a drain. What is under way is not in it: that
// is in the records of its migrations, and what is left to do on the hosts.
type drainRecord struct {
	api.Drain
	Digest string `json:"digest"` // of the request that made it
	// Round grows when it is resumed: moves that failed before do not count.
	Round int `json:"round"`
	// Began is how many moves were begun.
	Began int `json:"began"`
	// Builds are those of the wave's hosts as its turn began.
	Builds map[string]string `json:"builds,omitempty"`

	begun int64 // the revision at which it came to be
}

// wave are the hosts whose turn it is.
func (d *drainRecord) wave() []string {
	if d.Wave == 0 {
		return d.Hosts
	}
	from := min((d.Turn-1)*d.Wave, len(d.Hosts))
	return d.Hosts[from:min(from+d.Wave, len(d.Hosts))]
}

func (d *drainRecord) last() bool { return d.Wave == 0 || d.Turn*d.Wave >= len(d.Hosts) }

// StartDrain makes a drain, which any server carries out from then on.
func (s *Server) StartDrain(ctx context.Context, by, key string, order api.DrainOrder) (*api.Drain, error) {
	id, sum := named(by, key), digest(order)
	if d := s.view.drain(id); d != nil {
		if d.Digest != sum {
			return nil, api.NewProblem(api.KeyReused, "it made drain %s", id)
		}
		return s.view.shown(d), nil
	}
	opts, err := s.limits(&order.DrainRequest)
	switch {
	case err != nil:
		return nil, err
	case order.TTL.Of() < 0 || order.TTL.Of() > s.config.MaxTTL:
		return nil, api.NewProblem(api.BadRequest, "a claim holds room for at most %s", s.config.MaxTTL)
	case order.AtOnce < 0 || order.Wave < 0:
		return nil, api.NewProblem(api.BadRequest, "at_once and wave are not negative")
	}
	now := s.now().UTC()
	d := &drainRecord{Digest: sum, Drain: api.Drain{
		ID: id, State: api.DrainRunning, By: by, Policy: cmp.Or(order.Policy, fleet.Pack), AtOnce: cmp.Or(order.AtOnce, api.DrainAtOnce),
		Proven: order.Proven, TTL: cmp.Or(order.TTL, api.Duration(s.config.TTL)), Wave: order.Wave, Turn: 1, Owned: len(order.Owners) > 0,
		Created: now, Changed: now,
	}}
	owners, err := long(ctx, s, func(f *fleet.Fleet) ([]fleet.Owner, error) {
		var err error
		if d.Hosts, err = f.Named(order.Hosts); err != nil {
			return nil, err
		}
		plan, err := f.Drain(d.Hosts, opts) // a plan finds what is wrong with the request
		if err != nil {
			return nil, err
		}
		if plan.Owners > api.MaxDrained || len(order.Owners) > api.MaxDrained {
			return nil, api.NewProblem(api.BadRequest, "%d owners: a drain takes up to %d, so drain fewer hosts at a time", max(plan.Owners, len(order.Owners)), api.MaxDrained)
		}
		d.Waiting, d.Staying = plan.Moved, plan.Owners-plan.Moved
		return exact(f, order.Owners)
	})
	if err != nil {
		return nil, err
	}
	if d.Wave > 0 {
		d.Builds = s.view.builds(d.wave())
	}
	t := store.Txn{If: []store.Guard{{Key: store.Key(store.Drain, id)}}, Then: []store.Write{{Key: store.Key(store.Drain, id), Value: encode(d)}}}
	if len(owners) > 0 {
		t.Then = append(t.Then, store.Write{Key: store.Key(store.Owners, id), Value: pack(owners)})
	}
	// A guard that does not hold says that the same request was here before.
	if _, err := s.commit(ctx, t); err != nil {
		return nil, err
	}
	s.log.Info("drain", "id", id, "hosts", len(d.Hosts), "by", by)
	made, err := s.readDrain(ctx, id)
	if err != nil {
		return nil, err
	}
	if made.Digest != sum {
		return nil, api.NewProblem(api.KeyReused, "it made drain %s", id)
	}
	return s.view.shown(made), nil
}

// exact are owners whose devices are named by host and whole id: what is clear
// now is not to become ambiguous later.
func exact(f *fleet.Fleet, owners []fleet.Owner) ([]fleet.Owner, error) {
	list := slices.Clone(owners)
	for i := range list {
		list[i].Devices = slices.Clone(list[i].Devices)
		for n, ref := range list[i].Devices {
			source, err := f.Source(ref)
			if err != nil {
				return nil, err
			}
			list[i].Devices[n] = source.Host() + "/" + source.ID()
		}
	}
	return list, nil
}

// drain is a copy of a drain as this server has seen it, nil where there is none.
func (v *view) drain(id string) *drainRecord {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if d := v.drains[id]; d != nil {
		return new(*d)
	}
	return nil
}

// shown is a drain as it is told, with what is under way.
func (v *view) shown(d *drainRecord) *api.Drain {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.told(d)
}

// told is the same. The caller holds the lock.
func (v *view) told(d *drainRecord) *api.Drain {
	told, n := d.Drain, v.tallies[d.ID]
	told.Moving, told.Moved = n.moving, n.moved
	return &told
}

// tally is how many of a drain's moves are under way, and have ended on the
// target.
type tally struct{ moving, moved int }

// tally counts a migration of a drain, or counts it no more. The caller holds the
// lock.
func (v *view) tally(m *api.Migration, by int) {
	if m.Drain == "" {
		return
	}
	n := v.tallies[m.Drain]
	switch {
	case underWay(m.State):
		n.moving += by
	case m.Host == m.Target:
		n.moved += by
	}
	put(v.tallies, m.Drain, n, n == tally{})
}

// underWay reports whether a migration counts as a move at this moment: from its
// claim until the VM is known to be on one of the hosts for good. Clearing up
// after it moves nothing.
func underWay(s api.MigrationState) bool {
	return s == api.Planned || s == api.Claimed || s == api.Prepared || s == api.HandedOver
}

// Drains lists drains by id.
func (s *Server) Drains(after string, limit int, all bool) *api.Drains {
	v := s.view
	v.mu.RLock()
	defer v.mu.RUnlock()
	page := &api.Drains{Drains: []api.Drain{}, Revision: v.revision}
	open := make(map[string]*drainRecord)
	for id, d := range v.drains {
		if all || !d.State.Over() {
			open[id] = d
		}
	}
	for _, id := range pageOf(open, after, limit, &page.Next) {
		page.Drains = append(page.Drains, *v.told(open[id]))
	}
	return page
}

func (s *Server) readDrain(ctx context.Context, id string) (*drainRecord, error) {
	r, err := s.read(ctx, store.Drain, id)
	if err != nil {
		return nil, err
	}
	d := new(drainRecord)
	if err := decode(r, d); err != nil {
		return nil, fmt.Errorf("read drain %s: %w", id, err)
	}
	d.Revision, d.begun = r.Revision, r.Created
	return d, nil
}

// Drain is one drain, on request with all of its owners: what became of them,
// and for those that are left what the plan is now.
func (s *Server) Drain(ctx context.Context, id string, owners bool) (*api.DrainDetail, error) {
	d, err := s.readDrain(ctx, id)
	if err != nil {
		return nil, err
	}
	if !owners {
		return &api.DrainDetail{Drain: *s.view.shown(d)}, nil
	}
	detail, err := long(ctx, s, func(f *fleet.Fleet) (*api.DrainDetail, error) {
		w := s.view.scene(d, f)
		detail := &api.DrainDetail{Owners: w.settled}
		switch {
		case !d.State.Over():
			plan, err := w.plan(f, d, s.now())
			if err != nil {
				return nil, err
			}
			detail.Owners = append(detail.Owners, w.left(plan)...)
		default:
			detail.Owners = append(detail.Owners, d.Stays...)
		}
		return detail, nil
	})
	if err != nil {
		return nil, err
	}
	detail.Drain = *s.view.shown(d)
	if !d.State.Over() {
		detail.Staying = len(staying(detail.Owners))
		detail.Waiting = len(slices.DeleteFunc(slices.Clone(detail.Owners), func(o api.DrainOwner) bool { return o.State != api.OwnerWaiting }))
	}
	slices.SortFunc(detail.Owners, func(a, b api.DrainOwner) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Owner, b.Owner))
	})
	return detail, nil
}

// PauseDrain begins no more moves. ResumeDrain goes on: from a pause; to the
// next wave; or, with what stayed, when it was done.
func (s *Server) PauseDrain(ctx context.Context, id string, match int64) (*api.Drain, error) {
	return s.changeDrain(ctx, id, match, func(d *drainRecord) error {
		switch d.State {
		case api.DrainPaused:
			return errNothing
		case api.DrainRunning, api.DrainEmptied:
			return s.enterDrain(d, api.DrainPaused)
		}
		return drainState(d, "paused")
	})
}

func (s *Server) ResumeDrain(ctx context.Context, id string, match int64) (*api.Drain, error) {
	return s.changeDrain(ctx, id, match, func(d *drainRecord) error {
		switch {
		case d.State == api.DrainRunning:
			return errNothing
		case d.State == api.DrainEmptied:
			return s.nextWave(d)
		case d.State == api.DrainPaused, d.State == api.DrainDone && d.Wave == 0:
			d.Round++
			if d.State == api.DrainDone {
				d.Stays = nil
			}
			return s.enterDrain(d, api.DrainRunning)
		}
		return drainState(d, "resumed")
	})
}

// CancelDrain begins no more moves, for good.
func (s *Server) CancelDrain(ctx context.Context, id string, match int64, c api.DrainCancel) (*api.Drain, error) {
	return s.changeDrain(ctx, id, match, func(d *drainRecord) error {
		switch {
		case d.State == api.DrainDone:
			return drainState(d, "cancelled")
		case d.State == api.DrainCancelled && (d.Abort || !c.Abort):
			return errNothing
		}
		d.Abort = d.Abort || c.Abort
		return s.enterDrain(d, api.DrainCancelled)
	})
}

func drainState(d *drainRecord, what string) error {
	return api.NewProblem(api.WrongState, "drain %s is %s, and cannot be %s", d.ID, d.State, what)
}

func (s *Server) enterDrain(d *drainRecord, state api.DrainState) error {
	d.State, d.Changed, d.Idle = state, s.now().UTC(), time.Time{}
	return nil
}

// nextWave gives the next hosts their turn, or ends the drain.
func (s *Server) nextWave(d *drainRecord) error {
	if d.last() {
		d.Staying = len(d.Stays) // of all waves
		return s.enterDrain(d, api.DrainDone)
	}
	d.Turn++
	d.Round++
	d.Builds = s.view.builds(d.wave())
	return s.enterDrain(d, api.DrainRunning)
}

// changeDrain reads, changes and writes a drain until all was of one moment.
func (s *Server) changeDrain(ctx context.Context, id string, match int64, change func(*drainRecord) error) (*api.Drain, error) {
	for range tries {
		d, err := s.readDrain(ctx, id)
		if err != nil {
			return nil, err
		}
		if match != 0 && d.Revision != match {
			return nil, api.NewProblem(api.RevisionChanged, "drain %s is at revision %d", id, d.Revision)
		}
		before := d.Revision
		if err := change(d); err == errNothing {
			return s.view.shown(d), nil
		} else if err != nil {
			return nil, err
		}
		ok, err := s.writeDrain(ctx, d, before)
		if err != nil {
			return nil, err
		}
		if ok {
			if d, err = s.readDrain(ctx, id); err != nil {
				return nil, err
			}
			return s.view.shown(d), nil
		}
	}
	return nil, errContended
}

// writeDrain writes a drain that has to be as it was read.
func (s *Server) writeDrain(ctx context.Context, d *drainRecord, before int64) (bool, error) {
	key := store.Key(store.Drain, d.ID)
	ok, err := s.commit(ctx, store.Txn{If: []store.Guard{{Key: key, Revision: before}}, Then: []store.Write{{Key: key, Value: encode(d)}}})
	if ok {
		s.log.Info("drain", "id", d.ID, "state", d.State, "wave", d.Turn, "waiting", d.Waiting, "staying", d.Staying)
	}
	return ok, err
}

// openDrains are those that something may have to be done for.
func (v *view) openDrains() []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var list []string
	for _, id := range slices.Sorted(maps.Keys(v.drains)) {
		if d := v.drains[id]; d.State == api.DrainRunning || d.State == api.DrainEmptied || d.State == api.DrainCancelled && d.Abort {
			list = append(list, id)
		}
	}
	return list
}

func (s *Server) registerDrains(a huma.API) {
	o := op("start-drain", http.MethodPost, api.PathDrains, "Move every owner off some hosts: plan, claim and prepare; the VM manager moves")
	o.MaxBodyBytes = api.MaxLong
	do(a, o, func(ctx context.Context, in *struct {
		Keyed
		Body api.DrainOrder
	}) (*api.Drain, error) {
		return s.StartDrain(ctx, who(ctx).Name, in.Key, in.Body)
	})
	get(a, "list-drains", api.PathDrains, "Drains, by id", func(_ context.Context, in *Listed) (*api.Drains, error) {
		return s.Drains(in.After, in.Limit, in.All), nil
	})
	get(a, "show-drain", api.PathDrainOne, "One drain, on request with what became of each owner", func(ctx context.Context, in *struct {
		ID     string `path:"id"`
		Owners bool   `query:"owners" doc:"also every owner, and for those that are left what the plan is now"`
	}) (*api.DrainDetail, error) {
		return s.Drain(ctx, in.ID, in.Owners)
	})
	step := func(id, path, summary string, change func(context.Context, string, int64) (*api.Drain, error)) {
		do(a, op(id, http.MethodPost, path, summary), func(ctx context.Context, in *OneOf) (*api.Drain, error) {
			match, err := in.match()
			if err != nil {
				return nil, err
			}
			return change(ctx, in.ID, match)
		})
	}
	step("pause-drain", api.PathPause, "Begin no more moves; those under way go on", s.PauseDrain)
	step("resume-drain", api.PathResume, "Go on: after a pause, with the next wave, or with what stayed", s.ResumeDrain)
	do(a, op("cancel-drain", http.MethodPost, api.PathCancel, "Begin no more moves, for good"), func(ctx context.Context, in *struct {
		OneOf
		Body api.DrainCancel
	}) (*api.Drain, error) {
		match, err := in.match()
		if err != nil {
			return nil, err
		}
		return s.CancelDrain(ctx, in.ID, match, in.Body)
	})
}
