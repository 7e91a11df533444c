// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kindred/api"
)

// Migration takes one guest to another host.
type Migration struct {
	Preparation
	Manager Manager
	To      Target
	// Wait is how long the target may take to have the devices ready.
	Wait time.Duration
	// Tell is told how far the manager is.
	Tell func(Progress)
}

// Result is how a migration ended.
type Result struct {
	Migration *api.Migration `json:"migration"`
	End       *End           `json:"end"`
}

// settle is how long the end is told, and the other end waited for.
const settle = time.Minute

// Run takes the guest there. The result is that of a VM that runs on the target,
// also when the fleet could not be told: then there is an error too.
func (v *Migration) Run(ctx context.Context) (*Result, error) {
	switch {
	case len(v.Guest.Devices) == 0:
		return nil, fmt.Errorf("%s has none of the host's devices: its VM manager migrates it alone", v.Guest.Name)
	case !v.Guest.State.Live():
		return nil, fmt.Errorf("%s is %s: there is nothing to be moved while it runs", v.Guest.Name, v.Guest.State)
	}
	m, err := v.ready(ctx)
	if err != nil {
		return nil, err
	}
	places, err := Places(m)
	if err != nil {
		return nil, err
	}
	v.see(m)
	end, err := v.Manager.Move(ctx, v.Guest, places, v.To, v.Tell)
	// It is told what came of it also when nobody wants to wait any more.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settle)
	defer cancel()
	if err != nil {
		return nil, v.stayed(ctx, m, err)
	}
	done, err := v.completed(ctx, m, end)
	return &Result{done, end}, err
}

// ready is the migration with the devices handed over.
func (v *Migration) ready(ctx context.Context) (*api.Migration, error) {
	waiting, cancel := context.WithTimeout(ctx, v.Wait)
	defer cancel()
	m, ours, err := v.Prepare(waiting)
	if err == nil {
		id := m.ID
		err = Insist(ctx, func(ctx context.Context) error {
			over, err := v.Fleet.HandOver(ctx, id)
			if err == nil {
				m = over
			}
			return err
		})
	}
	if err != nil && m != nil && ours {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Patience)
		defer cancel()
		if _, failed := v.Fleet.Abort(ctx, m.ID, &api.Abort{Reason: err.Error()}); failed != nil {
			err = fmt.Errorf("%w; migration %s is left to its deadline: %w", err, m.ID, failed)
		}
	}
	return m, err
}

// stayed tells the fleet that the guest is on the source, if that is known.
func (v *Migration) stayed(ctx context.Context, m *api.Migration, why error) error {
	s, ok := errors.AsType[*Stayed](why)
	if !ok {
		return fmt.Errorf("%w; it is not known where %s runs now: the fleet finds out from both hosts, or is told by kindred migration complete or abort %s", why, v.Guest.Name, m.ID)
	}
	err := Insist(ctx, func(ctx context.Context) error {
		_, err := v.Fleet.Abort(ctx, m.ID, &api.Abort{Reason: s.Error(), Rejected: s.Rejected})
		return err
	})
	if err != nil {
		return fmt.Errorf("%w; %s runs on, and migration %s is left to its deadline: %w", why, v.Guest.Name, m.ID, err)
	}
	return fmt.Errorf("%s stays on %s: %w", v.Guest.Name, m.Source, why)
}

// witness is how long the target's own word is waited for, where one may come:
// only there it can be seen whether the drivers took the state.
const witness = 10 * time.Second

// completed tells the fleet that the guest runs on the target, unless the target
// does, and waits until the source is cleared, unless its devices stay open.
func (v *Migration) completed(ctx context.Context, m *api.Migration, end *End) (*api.Migration, error) {
	begin, wait := time.Now(), time.Duration(0)
	if end.Followed {
		wait = witness
	}
	said := false
	for last := m; ; {
		var failed error
		now, err := v.Fleet.Migration(ctx, m.ID)
		if err == nil {
			last = now
			v.see(last)
		}
		switch {
		case err == nil && (last.State.Over() || end.Open && last.State == api.Completing):
			return last, nil
		case err == nil && last.State == api.Completing:
			said = true
		case !said && time.Since(begin) >= wait:
			failed = Insist(ctx, func(ctx context.Context) error {
				_, err := v.Fleet.CompleteWith(ctx, m.ID, &api.Completion{NoProof: true})
				return err
			})
			said = failed == nil
		}
		if failed == nil {
			select {
			case <-time.After(pause):
				continue
			case <-ctx.Done():
			}
		}
		if said {
			return last, nil // what is left takes its time
		}
		return last, fmt.Errorf("%s runs on %s, and the fleet was not told: kindred migration complete %s: %w", v.Guest.Name, v.Target, m.ID, errors.Join(failed, ctx.Err()))
	}
}
