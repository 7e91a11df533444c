// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked is returned when a device is being changed by somebody else.
var ErrLocked = errors.New("it is being changed by another process")

// Lock waits until nobody else changes the device, and excludes others until
// unlock is called or the process ends, whichever way it does. Devices are
// locked one by one, so that changes of different devices never wait for each
// other. The lock is on one byte of one file, chosen by the device's id: no
// file is left behind by anybody, and two devices on one byte only wait.
func (s *Store) Lock(ctx context.Context, id string) (unlock func(), err error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		unlock, err := s.TryLock(id)
		if !errors.Is(err, ErrLocked) {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

// TryLock is Lock without waiting.
func (s *Store) TryLock(id string) (unlock func(), err error) {
	if err := s.below.MkdirAll(s.dir, 0o755); err != nil {
		return nil, fmt.Errorf("lock %s: %w", id, err)
	}
	f, err := s.below.OpenFile(path.Join(s.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w; run this as root", err)
		}
		return nil, fmt.Errorf("lock %s: %w", id, err)
	}
	h := fnv.New64a()
	_, _ = io.WriteString(h, id)
	// An open file description's lock (fcntl_locking(2)): of this call, not of
	// the process, and gone with the descriptor.
	one := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: int64(h.Sum64() >> 2), Len: 1}
	switch err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &one); {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		f.Close()
		return nil, ErrLocked
	case err != nil:
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", id, err)
	}
	return func() { f.Close() }, nil
}
