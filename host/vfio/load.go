// SPDX-License-Identifier: Apache-2.0

package vfio

import (
	"context"
	"fmt"
	"io"
	"time"
)

// LoadOptions say how to load.
type LoadOptions struct {
	Progress Progress
}

// Loaded is what came of a Load.
type Loaded struct {
	Bytes     int64
	Writing   time.Duration // from asking for RESUMING to the last write
	Committed time.Duration // what RESUMING to STOP took
}

// Load gives a device the state that r reads, and leaves the device in STOP, for
// the caller to make it run. What was in the device is lost, in any case.
//
// r decides whether the stream is whole: after io.EOF itself, and after nothing
// else, the device is asked to take what was written, so a reader that checks a
// digest must return another error when it is wrong. No driver can be left to
// check that: mlx5, virtio and pds take a stream that was cut.
//
// Each piece that r reads is written as it comes, and may get its refusal at once.
// After an [*Error], the only error there is, nothing more has been written, the
// device was not stopped, and it was reset: several drivers take the rest of a
// stream whose header they refused, and would run with it. (At [StepAsk] nothing
// was begun, and nothing was reset.)
//
// An ended ctx ends everything but a call that a driver does not end, and r, which
// the caller must make return.
func Load(ctx context.Context, d Device, r io.Reader, o LoadOptions) (Loaded, error) {
	l := &loading{ctx: ctx, device: d, from: r, o: o}
	if err := l.begin(); err != nil {
		return l.loaded, err
	}
	err := l.run()
	if err != nil && err.Step != StepReset {
		err.Left = d.Reset()
	}
	if l.session != nil {
		// What closing says is of no interest: the driver gave its word before.
		_ = l.session.close()
	}
	if err != nil {
		return l.loaded, err
	}
	return l.loaded, nil
}

// loading is one Load.
type loading struct {
	ctx     context.Context
	device  Device
	from    io.Reader
	o       LoadOptions
	session *ending
	loaded  Loaded
}

func (l *loading) fail(kind Kind, step Step, err error) *Error {
	return failure(l.ctx, l.device, kind, step, l.loaded.Bytes, err)
}

// begin asks for the device's state: one that somebody left half way is reset, as
// its RESUMING may be of another stream.
func (l *loading) begin() error {
	if err := l.ctx.Err(); err != nil {
		return l.fail(KindEnded, StepAsk, err)
	}
	state, err := l.device.State()
	if err != nil {
		return l.fail(KindRefused, StepAsk, err)
	}
	switch state {
	case StateRunning, StateRunningP2P, StateStop:
		return nil
	}
	if err := l.device.Reset(); err != nil {
		return l.fail(KindRefused, StepReset, fmt.Errorf("the device was in %s: %w", state, err))
	}
	return nil
}

func (l *loading) run() *Error {
	begun := time.Now()
	session, err := setState(l.ctx, l.device, StateResuming)
	if err != nil {
		return l.fail(KindRefused, StepResuming, err)
	}
	if session == nil {
		return l.fail(KindRefused, StepResuming, errNoSession)
	}
	e := endWith(l.ctx, session)
	l.session = &e
	buf := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(buf)
	if err := l.copy(buf[:]); err != nil {
		return err
	}
	committing := time.Now()
	l.loaded.Writing = committing.Sub(begun)
	// From here on an ended context ends nothing.
	if !l.session.finish() {
		return l.fail(KindEnded, StepCommit, context.Cause(l.ctx))
	}
	if _, err := setState(l.ctx, l.device, StateStop); err != nil {
		return l.fail(KindRefused, StepCommit, err)
	}
	l.loaded.Committed = time.Since(committing)
	return nil
}

// patience is for how many reads in a row r may give nothing and no error.
const patience = 100

func (l *loading) copy(buf []byte) *Error {
	for idle := 0; ; {
		if err := l.ctx.Err(); err != nil {
			return l.fail(KindEnded, StepReceive, err)
		}
		n, readErr := l.from.Read(buf)
		if err := l.write(buf[:n]); err != nil {
			return err
		}
		switch {
		case readErr == io.EOF: // and nothing that wraps it
			return nil
		case readErr != nil:
			return l.fail(KindTransport, StepReceive, readErr)
		case n > 0:
			idle = 0
			l.o.Progress.tell(StateResuming, l.loaded.Bytes)
		default:
			if idle++; idle == patience {
				return l.fail(KindTransport, StepReceive, io.ErrNoProgress)
			}
		}
	}
}

// write writes all of p. A driver that takes less gets the rest in another call.
func (l *loading) write(p []byte) *Error {
	for len(p) > 0 {
		n, err := l.session.Write(p)
		if err == nil && n <= 0 {
			err = io.ErrShortWrite // pds, past its end
		}
		if err != nil {
			return l.fail(KindRefused, StepWrite, err)
		}
		l.loaded.Bytes += int64(n)
		p = p[n:]
	}
	return nil
}
