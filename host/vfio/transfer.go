// SPDX-License-Identifier: Apache-2.0

package vfio

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"
)

// Progress is told, between two chunks, how much of the stream has passed and in
// which state: PRE_COPY, STOP_COPY or RESUMING. It must not block.
type Progress func(in State, bytes int64)

func (p Progress) tell(in State, bytes int64) {
	if p != nil {
		p(in, bytes)
	}
}

// chunkSize is how much is asked for at once. Small reads cost: of a device with
// 256 MiB, 64 KiB at a time give 1276 MiB/s where 1 MiB gives 1730.
const chunkSize = 1 << 18

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// interrupted is how often a state change is asked for again that came back with
// EINTR and left the device where it was.
const interrupted = 8

// setState asks for a state. EINTR (xe) is no answer: what became of the device
// is read again, and only where nothing happened is it asked for once more.
func setState(ctx context.Context, d Device, to State) (Session, error) {
	before, err := d.State()
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		s, err := d.SetState(to)
		if !errors.Is(err, syscall.EINTR) || try == interrupted || ctx.Err() != nil {
			return s, err
		}
		now, stateErr := d.State()
		if stateErr != nil || now != before {
			return nil, err
		}
	}
}

// ending closes a session when the context ends, so that who waits for data wakes.
// finish takes that back, and says whether the session is still open; close closes
// it in any case. The session is closed once, by whoever comes first.
type ending struct {
	Session
	finish func() bool
	close  func() error
}

func endWith(ctx context.Context, s Session) ending {
	once := sync.OnceValue(s.Close)
	stop := context.AfterFunc(ctx, func() { _ = once() }) // nobody is there to be told
	finish := sync.OnceValue(stop)
	return ending{Session: s, finish: finish, close: func() error { finish(); return once() }}
}

// pause waits, unless the context ends first.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
