// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"kindred/api"
	"kindred/libvirt/domain"
)

const (
	// patience is how long something is tried again that may be otherwise in a
	// moment: a server that restarts, a VM that its agent has not seen running yet
	// (it looks every ten seconds), devices of a migration that is just given up.
	patience = 15 * time.Second
	pause    = 200 * time.Millisecond
)

// prepared is a migration to this host that has devices for the domain's, and
// whether it was begun here. The migration is also returned with an error, where
// one was begun.
func (h *Hook) prepared(ctx context.Context, doc *domain.Document) (m *api.Migration, ours bool, err error) {
	key := rand.Text()
	begin := time.Now()
	for {
		if m == nil {
			if m, ours, err = h.findOrBegin(ctx, doc, key); err != nil {
				if !passing(err) || time.Since(begin) > patience {
					return nil, false, err
				}
				m = nil
			}
		}
		if m != nil {
			switch m.State {
			case api.Prepared, api.HandedOver:
				return m, ours, nil
			case api.Completing, api.Completed:
				return m, false, fmt.Errorf("migration %s is %s: the domain is said to run here already", m.ID, m.State)
			case api.Aborting, api.Aborted:
				if ours {
					return m, false, fmt.Errorf("no devices for it on %s: %s", h.Host, m.Reason)
				}
				if m.State == api.Aborted {
					m, begin = nil, time.Now()
					continue
				}
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			if m != nil {
				err = fmt.Errorf("%s did not have the devices ready in time, migration %s is %s: %w", h.Host, m.ID, m.State, waited(m))
			}
			return m, ours, err
		}
		if m == nil {
			continue
		}
		var now *api.Migration
		if err = h.insist(ctx, func(ctx context.Context) (err error) { now, err = h.Fleet.Migration(ctx, m.ID); return err }); err != nil {
			return m, ours, err
		}
		m = now
	}
}

// waited says what a migration waits for.
func waited(m *api.Migration) error {
	for _, d := range m.Devices {
		if d.Detail != "" {
			return errors.New(d.Detail)
		}
	}
	if m.Reason != "" {
		return errors.New(m.Reason)
	}
	return errors.New("its agent has not made the devices; see journalctl -u kindred-agent here")
}

// passing reports whether the same may be granted in a moment.
func passing(err error) bool {
	p, refused := errors.AsType[*api.Problem](err)
	return refused && (p.Code == api.NotInUse || p.Code == api.DeviceClaimed)
}

// findOrBegin finds the migration that was made for the domain, or the claim, or
// makes one.
func (h *Hook) findOrBegin(ctx context.Context, doc *domain.Document, key string) (m *api.Migration, ours bool, err error) {
	var open []api.Migration
	if err := h.insist(ctx, func(ctx context.Context) (err error) { open, err = h.Fleet.Migrations(ctx, false); return err }); err != nil {
		return nil, false, err
	}
	for i := range open {
		o := &open[i]
		if o.Target == h.Host && concerns(doc, o.Owner, sources(o), targets(o)) {
			return o, false, nil
		}
	}
	owner := doc.UUID
	if owner == "" {
		owner = doc.Name
	}
	request := &api.MigrationRequest{ClaimRequest: api.ClaimRequest{Devices: doc.Devices(), Target: h.Host, Owner: owner}}
	var claims []api.Claim
	if err := h.insist(ctx, func(ctx context.Context) (err error) { claims, err = h.Fleet.Claims(ctx, false); return err }); err != nil {
		return nil, false, err
	}
	for i := range claims {
		var ids []string
		for j := range claims[i].Devices {
			ids = append(ids, claims[i].Devices[j].Source)
		}
		slices.Sort(ids)
		if c := &claims[i]; c.State == api.Held && c.Target == h.Host && concerns(doc, c.Owner, ids, nil) {
			request = &api.MigrationRequest{Claim: c.ID}
			key += c.ID // the request is another one, and so is its key
		}
	}
	err = h.insist(ctx, func(ctx context.Context) (err error) { m, err = h.Fleet.CreateMigration(ctx, key, request); return err })
	if errors.Is(err, &api.Problem{Code: api.Ambiguous}) {
		err = fmt.Errorf("%w: a function's address does not say which host it is on; begin with kindred vm migrate on the source", err)
	}
	return m, err == nil, err
}

// concerns reports whether devices on their way are the domain's. A UUID names
// one device; the address of a function names one on each host, so that the owner
// has to be the domain as well.
func concerns(doc *domain.Document, owner string, sources, targets []string) bool {
	devices := doc.Devices()
	if !slices.Equal(devices, sources) && !slices.Equal(devices, targets) {
		return false
	}
	if owner != "" && (owner == doc.UUID || owner == doc.Name) {
		return true
	}
	return !slices.ContainsFunc(doc.Hostdevs, func(d domain.Hostdev) bool { return d.Kind != domain.Mdev })
}

// insist asks until a server answers, for as long as is bearable.
func (h *Hook) insist(ctx context.Context, ask func(context.Context) error) error {
	for begin := time.Now(); ; {
		once, cancel := context.WithTimeout(ctx, patience)
		err := ask(once)
		cancel()
		if err == nil {
			return nil
		}
		p, refused := errors.AsType[*api.Problem](err)
		switch {
		case refused && p.Code != api.Unavailable:
			return err
		case time.Since(begin) > patience || ctx.Err() != nil:
			return &silence{err}
		}
		select {
		case <-time.After(5 * pause):
		case <-ctx.Done():
			return &silence{err}
		}
	}
}
