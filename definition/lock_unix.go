// SPDX-License-Identifier: Apache-2.0

//go:build unix

package definition

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// lockWait is far more than a file takes to be replaced: who has the lock so
// long is stopped, or waits for a disk.
const lockWait = 30 * time.Second

var errBusy = errors.New("another process has had it for 30 s; see fuser -v /" + lockFile)

// lock waits for the store's lock, in steps so that ctx can end the wait. The
// kernel drops it when its holder dies. It is held only while a file is
// replaced, never while a script runs.
func (s *Store) lock(ctx context.Context) (unlock func(), err error) {
	f, err := s.openLock()
	if err != nil {
		return nil, fmt.Errorf("open the lock %s: %w", lockFile, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, lockWait, errBusy)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", lockFile, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for the lock %s: %w", lockFile, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}
