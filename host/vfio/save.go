// SPDX-License-Identifier: Apache-2.0

package vfio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"
)

// SaveOptions say how to save.
type SaveOptions struct {
	// SkipPreCopy stops the device at once. It gives up the early check that
	// several drivers send first (mtty, hisi_acc, qat), and nothing else.
	SkipPreCopy bool
	// Rounds bounds how often PRE_COPY is asked for more; 0 means 8.
	Rounds   int
	Progress Progress
}

// Saved is what came of a Save.
type Saved struct {
	Bytes   int64         // of the whole stream
	PreCopy int64         // of these, read while the device was running
	Initial uint64        // bytes that PRE_COPY, as it began, said should be read before it ends
	Said    *uint64       // estimate that the driver made before, nil if it makes none
	Running time.Duration // spent in PRE_COPY
	Stopped time.Duration // from asking for STOP_COPY to the end
}

const (
	defaultRounds = 8
	// roundPause grows with each round in which a driver had nothing to read, though
	// it wants something read: virtio makes a new image once a second.
	roundPause = 25 * time.Millisecond
)

// Save reads the state of a device that is RUNNING, RUNNING_P2P or in STOP, writes
// it to w, and leaves the device in STOP, where it still has its state: SetState
// to RUNNING makes it go on, as if nothing had been, and so gives a transfer up.
//
// Where w has an AvailableBuffer, as bufio.Writer has, the state is read into that
// and need not be copied.
//
// A running device is read through PRE_COPY first where it can, until nothing that
// should be read in it is left and a bounded number of times. After an [*Error],
// the only error there is, Save has brought the device back to the state it was in.
//
// An ended ctx ends everything but a call that a driver does not end, and w, which
// the caller must make return.
func Save(ctx context.Context, d Device, w io.Writer, o SaveOptions) (Saved, error) {
	s := &saving{ctx: ctx, device: d, to: w, o: o}
	if err := s.begin(); err != nil {
		return s.saved, err
	}
	buf := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(buf)
	s.buf = buf[:]
	err := s.run()
	if s.session != nil {
		if closeErr := s.session.close(); err == nil && closeErr != nil {
			// All was read; what is left of the session is a descriptor.
			err = s.fail(KindNotSaved, StepStop, closeErr)
		}
	}
	if err != nil {
		err.Left = s.back()
		return s.saved, err
	}
	return s.saved, nil
}

// saving is one Save.
type saving struct {
	ctx     context.Context
	device  Device
	to      io.Writer
	o       SaveOptions
	start   State // of the device
	flags   Flags
	session *ending
	buf     []byte
	saved   Saved
}

func (s *saving) fail(kind Kind, step Step, err error) *Error {
	return failure(s.ctx, s.device, kind, step, s.saved.Bytes, err)
}

// begin asks, and changes nothing.
func (s *saving) begin() error {
	if err := s.ctx.Err(); err != nil {
		return s.fail(KindEnded, StepAsk, err)
	}
	var err error
	if s.flags, err = s.device.Migration(); err != nil {
		return s.fail(KindNotSaved, StepAsk, err)
	}
	if s.start, err = s.device.State(); err != nil {
		return s.fail(KindNotSaved, StepAsk, err)
	}
	switch s.start {
	case StateRunning, StateRunningP2P, StateStop:
	default:
		return s.fail(KindNotSaved, StepAsk, fmt.Errorf("the device is in %s: save one that is RUNNING, RUNNING_P2P or in STOP", s.start))
	}
	if size, err := s.device.DataSize(); err == nil { // a courtesy that older kernels do not have
		s.saved.Said = &size
	}
	return nil
}

// back returns the device to where it was. Setting the state it has is no error.
func (s *saving) back() error {
	_, err := setState(context.WithoutCancel(s.ctx), s.device, s.start)
	return err
}

func (s *saving) run() *Error {
	begun := time.Now()
	if err := s.preCopy(); err != nil {
		return err
	}
	stopping := time.Now()
	s.saved.Running = stopping.Sub(begun)
	if err := s.stopCopy(); err != nil {
		return err
	}
	s.saved.Stopped = time.Since(stopping)
	return nil
}

func (s *saving) open(session Session) {
	e := endWith(s.ctx, session)
	s.session = &e
}

// preCopy reads what a running device can give. A device that was stopped is left
// alone: the way from STOP to PRE_COPY leads through RUNNING.
func (s *saving) preCopy() *Error {
	to := StatePreCopy
	if s.start == StateRunningP2P {
		to = StatePreCopyP2P
	}
	if s.flags&FlagPreCopy == 0 || s.o.SkipPreCopy || s.start == StateStop {
		return nil
	}
	session, err := setState(s.ctx, s.device, to)
	if err != nil {
		return s.fail(KindNotSaved, StepPreCopy, err)
	}
	if session == nil {
		return s.fail(KindNotSaved, StepPreCopy, errNoSession)
	}
	s.open(session)
	rounds := s.o.Rounds
	if rounds <= 0 {
		rounds = defaultRounds
	}
	for round := range rounds {
		info, err := s.session.Precopy()
		if err != nil {
			return s.fail(KindNotSaved, StepInfo, err)
		}
		if round == 0 {
			s.saved.Initial = info.Initial
		}
		if info.Initial == 0 && info.Dirty == 0 {
			break
		}
		had := s.saved.Bytes
		// What became dirty meanwhile is the next round's.
		if err := s.drain(to, saturated(info.Initial, info.Dirty)); err != nil {
			return err
		}
		s.saved.PreCopy = s.saved.Bytes
		if s.saved.Bytes == had {
			if info.Initial == 0 {
				break // it dirties nothing that it would give
			}
			pause(s.ctx, time.Duration(round+1)*roundPause)
		}
	}
	return nil
}

// stopCopy reads the rest, or all, and leaves the device in STOP.
func (s *saving) stopCopy() *Error {
	session, err := setState(s.ctx, s.device, StateStopCopy)
	if err != nil {
		return s.fail(KindNotSaved, StepStopCopy, err)
	}
	switch {
	case session != nil && s.session != nil:
		session.Close()
		return s.fail(KindNotSaved, StepStopCopy, errors.New("PRE_COPY's session is to go on, and there is another"))
	case session != nil:
		s.open(session)
	case s.session == nil:
		return s.fail(KindNotSaved, StepStopCopy, errNoSession)
	}
	if err := s.drain(StateStopCopy, 0); err != nil {
		return err
	}
	if !s.session.finish() {
		return s.fail(KindEnded, StepStop, context.Cause(s.ctx))
	}
	if _, err := setState(s.ctx, s.device, StateStop); err != nil {
		return s.fail(KindNotSaved, StepStop, err)
	}
	return nil
}

var errNoSession = errors.New("the driver opened no session")

// drain copies to where the device's data end: for now in PRE_COPY, for good in
// STOP_COPY. In PRE_COPY it also ends when it has read enough.
func (s *saving) drain(in State, enough uint64) *Error {
	begun := s.saved.Bytes
	for in == StateStopCopy || uint64(s.saved.Bytes-begun) < enough {
		if err := s.ctx.Err(); err != nil {
			return s.fail(KindEnded, StepRead, err)
		}
		buf := s.room()
		n, err := s.session.Read(buf)
		if in != StateStopCopy && errors.Is(err, syscall.ENOMSG) {
			return nil
		}
		if err != nil {
			return s.fail(KindNotSaved, StepRead, err)
		}
		if n == 0 {
			return nil
		}
		sent, err := s.to.Write(buf[:n])
		if err == nil && sent != n {
			err = io.ErrShortWrite
		}
		if err != nil {
			return s.fail(KindTransport, StepSend, err)
		}
		s.saved.Bytes += int64(n)
		s.o.Progress.tell(in, s.saved.Bytes)
	}
	return nil
}

// room is what the next piece is read into: the writer's own memory, if it offers
// some as bufio.Writer does, and a buffer of Save's where it offers little.
func (s *saving) room() []byte {
	if w, ok := s.to.(interface{ AvailableBuffer() []byte }); ok {
		if b := w.AvailableBuffer(); cap(b) >= chunkSize/4 {
			return b[:cap(b)]
		}
	}
	return s.buf
}

func saturated(a, b uint64) uint64 {
	if a+b < a {
		return ^uint64(0)
	}
	return a + b
}
