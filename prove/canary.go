// SPDX-License-Identifier: Apache-2.0

package prove

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kindred/host/vfio"
)

// removeTimeout is how long a canary's removal may take once it is closed:
// the kernel waits for nobody else then.
const removeTimeout = 30 * time.Second

// withCanary makes a canary, opens it, lets it be used and removes it, also
// when ctx ended meanwhile.
func withCanary(ctx context.Context, s *Side, use func(id string, d vfio.Device) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	id, err := s.Host.Make(ctx, s.Parent, s.Type)
	if _, told := errors.AsType[*NotAllowedError](err); told {
		return err
	}
	if err != nil {
		return fmt.Errorf("make a canary of %s: %w", s, err)
	}
	defer func() {
		// Not ctx: it may have ended, and the canary is not left behind for that.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
		defer cancel()
		if gone := s.Host.Remove(end, id); gone != nil {
			err = errors.Join(err, fmt.Errorf("%w: remove the canary %s: %w", ErrLeft, id, gone))
		}
	}()
	d, err := s.Host.Open(ctx, id)
	if err != nil {
		return fmt.Errorf("open the canary %s of %s: %w", id, s, err)
	}
	defer func() {
		if closed := d.Close(); closed != nil {
			err = errors.Join(err, fmt.Errorf("close the canary %s: %w", id, closed))
		}
	}()
	return use(id, d)
}
