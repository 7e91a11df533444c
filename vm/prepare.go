// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"kindred/api"
)

const (
	// Patience is how long something is tried again that may be otherwise in a
	// moment: a server that restarts, a VM that its agent has not seen running yet
	// (it looks every ten seconds), devices of a migration that is just given up.
	Patience = 15 * time.Second
	pause    = 200 * time.Millisecond
)

// Preparation has the fleet prepare a target for a guest.
type Preparation struct {
	Fleet  Fleet
	Guest  *Guest
	Target string // the host
	Source string // the host that the guest is on; empty: it is not known, and the devices' names have to do
	// Want is what else is asked of a migration that has to be begun.
	Want api.ClaimRequest
	// Seen is told each state that the migration is seen in; nil: nobody.
	Seen func(*api.Migration)
}

func (p *Preparation) see(m *api.Migration) {
	if p.Seen != nil {
		p.Seen(m)
	}
}

// Prepare returns a migration that has devices for the guest's on the target, and
// whether it was begun here. With an error it is also returned, where one was
// begun here and has to be aborted.
func (p *Preparation) Prepare(ctx context.Context) (m *api.Migration, ours bool, err error) {
	key := rand.Text()
	begin := time.Now()
	for {
		if m == nil {
			if m, ours, err = p.findOrBegin(ctx, key); err != nil {
				if !passing(err) || time.Since(begin) > Patience {
					return nil, false, err
				}
				m = nil
			}
		}
		if m != nil {
			p.see(m)
			switch m.State {
			case api.Prepared, api.HandedOver:
				return m, ours, nil
			case api.Completing, api.Completed:
				return m, false, fmt.Errorf("migration %s is %s: the VM is said to run on %s already", m.ID, m.State, p.Target)
			case api.Aborting, api.Aborted:
				if ours {
					return m, false, p.refused(m)
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
				err = p.late(m)
			}
			return m, ours, err
		}
		if m == nil {
			continue
		}
		var now *api.Migration
		if err = Insist(ctx, func(ctx context.Context) (err error) { now, err = p.Fleet.Migration(ctx, m.ID); return err }); err != nil {
			if ctx.Err() != nil && !Unreachable(err) {
				err = p.late(m)
			}
			return m, ours, err
		}
		m = now
	}
}

func (p *Preparation) late(m *api.Migration) error {
	return fmt.Errorf("%s did not have the devices ready in time, migration %s is %s: %w", p.Target, m.ID, m.State, waited(m))
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
	return errors.New("its agent has not made the devices; see journalctl -u kindred-agent there")
}

// passing reports whether the same may be granted in a moment.
func passing(err error) bool {
	p, refused := errors.AsType[*api.Problem](err)
	return refused && (p.Code == api.NotInUse || p.Code == api.DeviceClaimed)
}

// findOrBegin finds the migration that was made for the guest, or the claim, or
// makes one.
func (p *Preparation) findOrBegin(ctx context.Context, key string) (m *api.Migration, ours bool, err error) {
	var open []api.Migration
	if err := Insist(ctx, func(ctx context.Context) (err error) { open, err = p.Fleet.Migrations(ctx, false); return err }); err != nil {
		return nil, false, err
	}
	for i := range open {
		o := &open[i]
		if p.concerns(o.Source, o.Target, o.Owner, Sources(o), Targets(o)) {
			return o, false, nil
		}
	}
	var claims []api.Claim
	if err := Insist(ctx, func(ctx context.Context) (err error) { claims, err = p.Fleet.Claims(ctx, false); return err }); err != nil {
		return nil, false, err
	}
	request := p.request()
	for i := range claims {
		var ids []string
		for j := range claims[i].Devices {
			ids = append(ids, claims[i].Devices[j].Source)
		}
		slices.Sort(ids)
		if c := &claims[i]; c.State == api.Held && p.concerns(c.Source, c.Target, c.Owner, ids, nil) {
			request = &api.MigrationRequest{Claim: c.ID}
			key += c.ID // the request is another one, and so is its key
			break
		}
	}
	if p.Source == "" && request.Claim == "" && p.functions() {
		return nil, false, fmt.Errorf("it has functions, whose addresses do not say which host they are on: begin on the source, by kindred vm migrate %s %s, or by kindred claim create with --owner %s", p.Guest.Name, p.Target, p.Guest.Owner())
	}
	err = Insist(ctx, func(ctx context.Context) (err error) { m, err = p.Fleet.CreateMigration(ctx, key, request); return err })
	if errors.Is(err, &api.Problem{Code: api.NotInUse}) {
		err = fmt.Errorf("%w; an offline migration has no device to be moved", err)
	}
	return m, err == nil, err
}

// request is for a migration that is begun.
func (p *Preparation) request() *api.MigrationRequest {
	r := &api.MigrationRequest{ClaimRequest: p.Want}
	r.Devices, r.Target, r.Owner = p.Guest.IDs(), p.Target, p.Guest.Owner()
	if p.Source != "" {
		for i, id := range r.Devices {
			r.Devices[i] = p.Source + "/" + id
		}
	}
	return r
}

// functions reports whether not all devices are named by UUID.
func (p *Preparation) functions() bool {
	return slices.ContainsFunc(p.Guest.Devices, func(d Device) bool { return !d.Mdev })
}

// concerns reports whether devices on their way are the guest's. A UUID names one
// device; the address of a function names one on each host, so that the owner has
// to be the guest as well, and by its UUID where it is not known which host it
// comes from: names may be there twice.
func (p *Preparation) concerns(source, target, owner string, sources, targets []string) bool {
	ids := p.Guest.IDs()
	if target != p.Target || p.Source != "" && source != p.Source || !slices.Equal(ids, sources) && !slices.Equal(ids, targets) {
		return false
	}
	if owner != "" && (owner == p.Guest.UUID || owner == p.Guest.Name && (p.Source != "" || !p.functions())) {
		return true
	}
	return !p.functions()
}

// Places says what each of a migration's devices is called on the target.
func Places(m *api.Migration) (map[string]string, error) {
	places := make(map[string]string, len(m.Devices))
	for _, d := range m.Devices {
		if d.Target == "" {
			return nil, fmt.Errorf("migration %s is %s, and has no device for %s", m.ID, m.State, d.Source)
		}
		places[d.Source] = d.Target
	}
	return places, nil
}

// Sources are a migration's devices on the source, sorted.
func Sources(m *api.Migration) []string {
	var ids []string
	for i := range m.Devices {
		ids = append(ids, m.Devices[i].Source)
	}
	slices.Sort(ids)
	return ids
}

// Targets are a migration's devices on the target, sorted.
func Targets(m *api.Migration) []string {
	var ids []string
	for i := range m.Devices {
		ids = append(ids, m.Devices[i].Target)
	}
	slices.Sort(ids)
	return ids
}

// refused is why a migration that was begun for the VM came to nothing: like a
// refusal to begin it, where there is a code for that.
func (p *Preparation) refused(m *api.Migration) error {
	text := fmt.Sprintf("no devices for it on %s: %s", p.Target, m.Reason)
	if m.Code == "" {
		return errors.New(text)
	}
	return &api.Problem{Code: m.Code, Detail: text}
}
