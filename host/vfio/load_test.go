// SPDX-License-Identifier: Apache-2.0

package vfio_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"kindred/host/vfio"
)

const stream = "headerthe body of the device's state"

func TestLoad(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fake)
		from   io.Reader
		resets int
	}{
		"whole":              {func(f *fake) {}, strings.NewReader(stream), 0},
		"EOF with the bytes": {func(f *fake) {}, iotest.DataErrReader(strings.NewReader(stream)), 0},
		"short writes":       {func(f *fake) { f.takeMost = 3 }, strings.NewReader(stream), 0},
		"a byte at a time":   {func(f *fake) {}, iotest.OneByteReader(strings.NewReader(stream)), 0},
		"stopped before":     {func(f *fake) { f.state = vfio.StateStop }, strings.NewReader(stream), 0},
		// Of whom was it? A device closed in RESUMING must not be stopped.
		"left in RESUMING": {func(f *fake) { f.state = vfio.StateResuming }, strings.NewReader(stream), 1},
		"left in ERROR":    {func(f *fake) { f.state = vfio.StateError }, strings.NewReader(stream), 1},
		"EINTR, unmoved":   {fails(vfio.StateResuming, syscall.EINTR, vfio.StateRunning), strings.NewReader(stream), 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			c.change(f)
			var told int64
			loaded, err := vfio.Load(t.Context(), f, c.from, vfio.LoadOptions{Progress: func(in vfio.State, n int64) {
				if in != vfio.StateResuming || n <= told {
					t.Errorf("told of %d bytes in %s after %d", n, in, told)
				}
				told = n
			}})
			if err != nil {
				t.Fatal(err)
			}
			if string(f.taken) != stream || loaded.Bytes != int64(len(stream)) {
				t.Errorf("%d bytes: %q", loaded.Bytes, f.taken)
			}
			if f.state != vfio.StateStop || f.open != 0 || f.resets != c.resets {
				t.Errorf("in %s, %d sessions open, %d resets", f.state, f.open, f.resets)
			}
		})
	}
}

// TestLoadFails: after any failure the device was reset, and not stopped before.
func TestLoadFails(t *testing.T) {
	cut := errors.New("the digest is wrong")
	pieces := func() io.Reader { return iotest.HalfReader(strings.NewReader(stream)) }
	for name, c := range map[string]struct {
		change func(*fake)
		from   io.Reader
		want   vfio.Error // without Err
		err    error
		writes int // one more would be one after the error
	}{
		"RESUMING": {fails(vfio.StateResuming, syscall.EINVAL, vfio.StateStop), pieces(), vfio.Error{Kind: vfio.KindRefused, Step: vfio.StepResuming, State: vfio.StateStop}, syscall.EINVAL, 0},
		// mtty and qat take the rest after a refusal, and stop.
		"the header": {refuses(0, syscall.EFAULT), strings.NewReader(stream), vfio.Error{Kind: vfio.KindRefused, Step: vfio.StepWrite, State: vfio.StateResuming}, syscall.EFAULT, 1},
		"the middle": {func(f *fake) { f.takeMost = 10; refuses(20, syscall.EIO)(f) }, strings.NewReader(stream), vfio.Error{Kind: vfio.KindRefused, Step: vfio.StepWrite, At: 20, State: vfio.StateResuming}, syscall.EIO, 3},
		"EINTR":      {refuses(0, syscall.EINTR), strings.NewReader(stream), vfio.Error{Kind: vfio.KindRefused, Step: vfio.StepWrite, State: vfio.StateResuming}, syscall.EINTR, 1},
		"no room":    {func(f *fake) { f.takeMost = -1 }, strings.NewReader(stream), vfio.Error{Kind: vfio.KindRefused, Step: vfio.StepWrite, State: vfio.StateResuming}, io.ErrShortWrite, 1},
		"the commit": {fails(vfio.StateStop, syscall.EINVAL, vfio.StateResuming), strings.NewReader(stream), vfio.Error{Kind: vfio.KindRefused, Step: vfio.StepCommit, At: 36, State: vfio.StateResuming}, syscall.EINVAL, 1},
		"a cut":      {func(f *fake) {}, io.MultiReader(strings.NewReader("header"), iotest.ErrReader(io.ErrUnexpectedEOF)), vfio.Error{Kind: vfio.KindTransport, Step: vfio.StepReceive, At: 6, State: vfio.StateResuming}, io.ErrUnexpectedEOF, 1},
		"a digest":   {func(f *fake) {}, io.MultiReader(strings.NewReader(stream), iotest.ErrReader(cut)), vfio.Error{Kind: vfio.KindTransport, Step: vfio.StepReceive, At: 36, State: vfio.StateResuming}, cut, 1},
		"an EOF that is explained": {func(f *fake) {}, io.MultiReader(strings.NewReader(stream), iotest.ErrReader(fmt.Errorf("peer: %w", io.EOF))),
			vfio.Error{Kind: vfio.KindTransport, Step: vfio.StepReceive, At: 36, State: vfio.StateResuming}, io.EOF, 1},
		"no progress": {func(f *fake) {}, reader(func([]byte) (int, error) { return 0, nil }), vfio.Error{Kind: vfio.KindTransport, Step: vfio.StepReceive, State: vfio.StateResuming}, io.ErrNoProgress, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			c.change(f)
			_, err := vfio.Load(t.Context(), f, c.from, vfio.LoadOptions{})
			check(t, asError(t, err), c.want, c.err)
			if f.writes != c.writes {
				t.Errorf("%d writes, want %d", f.writes, c.writes)
			}
			if f.resets != 1 || f.state != vfio.StateRunning || f.open != 0 {
				t.Errorf("%d resets, in %s, %d sessions open", f.resets, f.state, f.open)
			}
			if c.want.Step != vfio.StepCommit && slices.Contains(f.asked, vfio.StateStop) {
				t.Error("the device was stopped with what had arrived")
			}
		})
	}
}

func TestLoadNotMigratable(t *testing.T) {
	f := &refusing{fake: newFake()}
	_, err := vfio.Load(t.Context(), f, strings.NewReader(stream), vfio.LoadOptions{})
	check(t, asError(t, err), vfio.Error{Kind: vfio.KindRefused, Step: vfio.StepAsk}, vfio.ErrNotMigratable)
	if f.resets != 0 || len(f.asked) != 0 {
		t.Errorf("%d resets, asked for %v", f.resets, f.asked)
	}
}

// refusing has no migration state at all.
type refusing struct{ *fake }

func (r *refusing) State() (vfio.State, error) { return 0, vfio.ErrNotMigratable }

// TestLoadCannotReset: the caller is told that the device is not usable.
func TestLoadCannotReset(t *testing.T) {
	f := newFake()
	f.resetErr = syscall.ENODEV
	refuses(0, syscall.EFAULT)(f)
	_, err := vfio.Load(t.Context(), f, strings.NewReader(stream), vfio.LoadOptions{})
	if got := asError(t, err); got.Left != syscall.ENODEV || got.Errno() != syscall.EFAULT {
		t.Errorf("%v", got)
	}
	f = newFake()
	f.resetErr, f.state = syscall.ENODEV, vfio.StateResuming
	_, err = vfio.Load(t.Context(), f, strings.NewReader(stream), vfio.LoadOptions{})
	check(t, asError(t, err), vfio.Error{Kind: vfio.KindRefused, Step: vfio.StepReset, State: vfio.StateResuming}, syscall.ENODEV)
}

func TestLoadEnds(t *testing.T) {
	for name, c := range map[string]struct {
		blocks bool // in the driver, else in the reader
		step   vfio.Step
		kind   vfio.Kind
	}{
		"in the driver": {true, vfio.StepWrite, vfio.KindEnded},
		"in the reader": {false, vfio.StepReceive, vfio.KindEnded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.blocks = c.blocks
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				from := reader(func(p []byte) (int, error) {
					if c.blocks {
						return copy(p, stream), nil
					}
					<-ctx.Done()
					return 0, errors.New("closed by who knew")
				})
				_, err := vfio.Load(ctx, f, from, vfio.LoadOptions{})
				check(t, asError(t, err), vfio.Error{Kind: c.kind, Step: c.step, State: vfio.StateResuming}, context.DeadlineExceeded)
				if f.resets != 1 || f.open != 0 || slices.Contains(f.asked, vfio.StateStop) {
					t.Errorf("%d resets, %d sessions open, asked for %v", f.resets, f.open, f.asked)
				}
			})
		})
	}
}

type reader func([]byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }

func refuses(at int, err error) func(*fake) {
	return func(f *fake) { f.writeErr = map[int]error{at: err} }
}
