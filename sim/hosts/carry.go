// SPDX-License-Identifier: Apache-2.0

package hosts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kindred/api"
	"kindred/host/vfio"
)

// Fleet is the server, as a VM manager has it.
type Fleet interface {
	Migration(ctx context.Context, id string) (*api.Migration, error)
	HandOver(ctx context.Context, id string) (*api.Migration, error)
	Complete(ctx context.Context, id string) (*api.Migration, error)
	Abort(ctx context.Context, id string, a *api.Abort) (*api.Migration, error)
}

// ErrOver is returned for a migration that ended before it was handed over.
var ErrOver = errors.New("the migration ended before the state could be moved")

// Carry does a VM manager's part of a migration: it waits until the target is
// prepared, takes the devices over, moves the guest that owns them, and says how
// that ended. The migration is the one that was handed over; the error is why it
// was aborted.
func (m *Manager) Carry(ctx context.Context, fleet Fleet, id string) (*api.Migration, Moved, error) {
	mig, err := Await(ctx, fleet, id, func(s api.MigrationState) bool { return s == api.Prepared || s == api.HandedOver })
	if err != nil {
		return mig, Moved{}, err
	}
	if mig, err = fleet.HandOver(ctx, id); err != nil {
		return mig, Moved{}, err
	}
	names := make(map[string]string)
	for _, d := range mig.Devices {
		names[d.Source] = d.Target
	}
	moved, err := m.Move(ctx, mig.Owner, mig.Target, names)
	if err != nil {
		why := &api.Abort{Reason: err.Error()}
		if e, ok := errors.AsType[*vfio.Error](err); ok && e.Kind == vfio.KindRefused {
			why.Rejected = err.Error()
		}
		_, abortErr := fleet.Abort(ctx, id, why)
		return mig, moved, errors.Join(err, abortErr)
	}
	_, err = fleet.Complete(ctx, id)
	return mig, moved, err
}

// Await waits until a migration is in a wanted state, or over.
func Await(ctx context.Context, fleet Fleet, id string, wanted func(api.MigrationState) bool) (*api.Migration, error) {
	for {
		mig, err := fleet.Migration(ctx, id)
		switch {
		case err != nil:
			return nil, err
		case wanted(mig.State):
			return mig, nil
		case mig.State.Over():
			return mig, fmt.Errorf("migration %s is %s: %s: %w", id, mig.State, mig.Reason, ErrOver)
		}
		select {
		case <-ctx.Done():
			return mig, fmt.Errorf("migration %s is %s: %w", id, mig.State, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
