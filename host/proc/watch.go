// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"time"
)

// ErrHeld is why a context of [UntilHeld] ended.
var ErrHeld = errors.New("somebody has it open")

// UntilHeld ends with ctx, and earlier when held reports, after a pause or a later
// one, that a process has open what is waited for. It is asked until the function
// that is returned was called.
func UntilHeld(ctx context.Context, pause time.Duration, held func() bool) (context.Context, func()) {
	ctx, end := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			if held() {
				end(ErrHeld)
				return
			}
		}
	}()
	return ctx, func() {
		end(nil)
		<-watched
	}
}
