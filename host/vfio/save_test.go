// SPDX-License-Identifier: Apache-2.0

package vfio_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kindred/host/vfio"
)

func TestSave(t *testing.T) {
	const preCopy, preCopyP2P, stopCopy, stop = vfio.StatePreCopy, vfio.StatePreCopyP2P, vfio.StateStopCopy, vfio.StateStop
	for name, c := range map[string]struct {
		change  func(*fake)
		o       vfio.SaveOptions
		asked   []vfio.State
		preCopy int64
	}{
		"zero ends pre-copy":   {func(f *fake) {}, vfio.SaveOptions{}, []vfio.State{preCopy, stopCopy, stop}, 6},
		"ENOMSG ends pre-copy": {func(f *fake) { f.end = syscall.ENOMSG }, vfio.SaveOptions{}, []vfio.State{preCopy, stopCopy, stop}, 6},
		"a byte a read":        {func(f *fake) { f.readMost = 1 }, vfio.SaveOptions{}, []vfio.State{preCopy, stopCopy, stop}, 6},
		"not asked to":         {func(f *fake) {}, vfio.SaveOptions{SkipPreCopy: true}, []vfio.State{stopCopy, stop}, 0},
		"cannot":               {func(f *fake) { f.flags = vfio.FlagStopCopy }, vfio.SaveOptions{}, []vfio.State{stopCopy, stop}, 0},
		"P2P":                  {func(f *fake) { f.state = vfio.StateRunningP2P }, vfio.SaveOptions{}, []vfio.State{preCopyP2P, stopCopy, stop}, 6},
		// The way to PRE_COPY would lead through RUNNING.
		"stopped":              {func(f *fake) { f.state = vfio.StateStop }, vfio.SaveOptions{}, []vfio.State{stopCopy, stop}, 0},
		"wants, and gives not": {func(f *fake) { f.stuck = true }, vfio.SaveOptions{Rounds: 3}, []vfio.State{preCopy, stopCopy, stop}, 0},
		"EINTR, unmoved":       {func(f *fake) { f.setErr = map[vfio.State]*fault{stopCopy: {syscall.EINTR, preCopy, 2}} }, vfio.SaveOptions{}, []vfio.State{preCopy, stopCopy, stopCopy, stopCopy, stop}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // for the pauses
				f := newFake()
				c.change(f)
				var out bytes.Buffer
				var told int64
				c.o.Progress = func(in vfio.State, n int64) {
					if in != f.state || n <= told {
						t.Errorf("told of %d bytes in %s; it is in %s, and %d were before", n, in, f.state, told)
					}
					told = n
				}
				saved, err := vfio.Save(t.Context(), f, &out, c.o)
				if err != nil {
					t.Fatal(err)
				}
				want := string(f.header) + string(f.body)
				if out.String() != want || saved.Bytes != int64(len(want)) || told != saved.Bytes {
					t.Errorf("%q, said to be %d bytes, told %d; want %q", out.String(), saved.Bytes, told, want)
				}
				if diff := cmp.Diff(c.asked, f.asked); diff != "" {
					t.Errorf("states asked for: -want +got:\n%s", diff)
				}
				if saved.PreCopy != c.preCopy {
					t.Errorf("%d bytes in PRE_COPY, want %d", saved.PreCopy, c.preCopy)
				}
				if f.open != 0 || f.resets != 0 || f.state != stop {
					t.Errorf("%d sessions open, %d resets, in %s", f.open, f.resets, f.state)
				}
				if saved.Said == nil || *saved.Said != uint64(len(want)) {
					t.Errorf("the driver's estimate is %v", saved.Said)
				}
				if rounds := c.o.Rounds; rounds > 0 && f.precopys != rounds {
					t.Errorf("asked %d times what is left, want %d", f.precopys, rounds)
				}
			})
		})
	}
}

// TestSaveFails: whatever happens, the device is where it was, and runs on.
func TestSaveFails(t *testing.T) {
	full := errors.New("disk full")
	for name, c := range map[string]struct {
		change func(*fake)
		to     io.Writer
		want   vfio.Error // without Err
		err    error
	}{
		"no migration":        {func(f *fake) { f.flags = 0 }, io.Discard, vfio.Error{Kind: vfio.KindNotSaved, Step: vfio.StepAsk, State: vfio.StateRunning}, vfio.ErrNotMigratable},
		"PRE_COPY":            {fails(vfio.StatePreCopy, syscall.EIO, vfio.StateRunning), io.Discard, vfio.Error{Kind: vfio.KindNotSaved, Step: vfio.StepPreCopy, State: vfio.StateRunning}, syscall.EIO},
		"STOP_COPY, half way": {fails(vfio.StateStopCopy, syscall.EBUSY, vfio.StateStop), io.Discard, vfio.Error{Kind: vfio.KindNotSaved, Step: vfio.StepStopCopy, At: 6, State: vfio.StateStop}, syscall.EBUSY},
		"EINTR, moved":        {fails(vfio.StateStopCopy, syscall.EINTR, vfio.StateStop), io.Discard, vfio.Error{Kind: vfio.KindNotSaved, Step: vfio.StepStopCopy, At: 6, State: vfio.StateStop}, syscall.EINTR},
		"STOP":                {fails(vfio.StateStop, syscall.EIO, vfio.StateStopCopy), io.Discard, vfio.Error{Kind: vfio.KindNotSaved, Step: vfio.StepStop, At: 36, State: vfio.StateStopCopy}, syscall.EIO},
		"reading":             {func(f *fake) { f.readMost, f.readErr = 4, map[int]error{10: syscall.ENODEV} }, io.Discard, vfio.Error{Kind: vfio.KindNotSaved, Step: vfio.StepRead, At: 10, State: vfio.StateStopCopy}, syscall.ENODEV},
		"writing":             {func(f *fake) {}, writer(func(p []byte) (int, error) { return 0, full }), vfio.Error{Kind: vfio.KindTransport, Step: vfio.StepSend, State: vfio.StatePreCopy}, full},
		"writing less":        {func(f *fake) {}, writer(func(p []byte) (int, error) { return len(p) - 1, nil }), vfio.Error{Kind: vfio.KindTransport, Step: vfio.StepSend, State: vfio.StatePreCopy}, io.ErrShortWrite},
		// An errno that a transport happens to have is no word of the driver.
		"EINVAL from the writer": {func(f *fake) {}, writer(func(p []byte) (int, error) { return 0, syscall.EINVAL }), vfio.Error{Kind: vfio.KindTransport, Step: vfio.StepSend, State: vfio.StatePreCopy}, syscall.EINVAL},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.readMost = 6
			c.change(f)
			_, err := vfio.Save(t.Context(), f, c.to, vfio.SaveOptions{})
			got := asError(t, err)
			check(t, got, c.want, c.err)
			if f.state != vfio.StateRunning || f.resets != 0 || f.open != 0 {
				t.Errorf("in %s, %d resets, %d sessions open; want RUNNING, and nothing lost or left", f.state, f.resets, f.open)
			}
		})
	}
}

func TestSaveWrongState(t *testing.T) {
	for _, state := range []vfio.State{vfio.StateError, vfio.StateStopCopy, vfio.StateResuming, vfio.StatePreCopy} {
		f := newFake()
		f.state = state
		_, err := vfio.Save(t.Context(), f, io.Discard, vfio.SaveOptions{})
		check(t, asError(t, err), vfio.Error{Kind: vfio.KindNotSaved, Step: vfio.StepAsk, State: state}, nil)
		if len(f.asked) > 0 {
			t.Errorf("%s: asked for %v", state, f.asked)
		}
	}
}

// TestSaveEnds: a driver that gives nothing is waited for until the context ends.
func TestSaveEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.blocks = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := vfio.Save(ctx, f, io.Discard, vfio.SaveOptions{})
		check(t, asError(t, err), vfio.Error{Kind: vfio.KindEnded, Step: vfio.StepRead, State: vfio.StatePreCopy}, context.DeadlineExceeded)
		if f.state != vfio.StateRunning || f.open != 0 {
			t.Errorf("in %s, %d sessions open", f.state, f.open)
		}
	})
}

// TestSaveCannotGoBack: ERROR is left by a reset only, and the caller is told.
func TestSaveCannotGoBack(t *testing.T) {
	f := newFake()
	f.setErr = map[vfio.State]*fault{
		vfio.StateStopCopy: {syscall.EIO, vfio.StateError, 1},
		vfio.StateRunning:  {syscall.EINVAL, vfio.StateError, 1},
	}
	_, err := vfio.Save(t.Context(), f, io.Discard, vfio.SaveOptions{})
	got := asError(t, err)
	if got.State != vfio.StateError || !errors.Is(got.Left, syscall.EINVAL) || got.Errno() != syscall.EIO || f.resets != 0 {
		t.Errorf("%v, %d resets", got, f.resets)
	}
}

// TestCopies: pieces of any size, in both directions, are the same bytes.
func TestCopies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, to := newFake(), newFake()
		from.header = rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "header")
		from.body = rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "body")
		from.readMost = rapid.IntRange(0, 300).Draw(t, "read at most")
		to.takeMost = rapid.IntRange(0, 300).Draw(t, "take at most")
		if rapid.Bool().Draw(t, "ENOMSG") {
			from.end = syscall.ENOMSG
		}
		var stream bytes.Buffer
		if _, err := vfio.Save(t.Context(), from, &stream, vfio.SaveOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := vfio.Load(t.Context(), to, &stream, vfio.LoadOptions{}); err != nil {
			t.Fatal(err)
		}
		if want := slices.Concat(from.header, from.body); !bytes.Equal(to.taken, want) {
			t.Fatalf("%x arrived, want %x", to.taken, want)
		}
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func fails(to vfio.State, err error, at vfio.State) func(*fake) {
	return func(f *fake) { f.setErr = map[vfio.State]*fault{to: {err, at, 1}} }
}

func asError(t *testing.T, err error) *vfio.Error {
	t.Helper()
	var e *vfio.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no *vfio.Error", err)
	}
	t.Log(e)
	return e
}

// check compares all but the reason, and looks for a reason in it.
func check(t *testing.T, got *vfio.Error, want vfio.Error, reason error) {
	t.Helper()
	if got.Kind != want.Kind || got.Step != want.Step || got.At != want.At || got.State != want.State || got.Left != nil {
		t.Errorf("got %+v\nwant %+v", *got, want)
	}
	if reason != nil && !errors.Is(got, reason) {
		t.Errorf("the reason is %v, want %v", got.Err, reason)
	}
	var errno syscall.Errno
	if got.Kind == vfio.KindRefused || got.Kind == vfio.KindNotSaved {
		errno, _ = reason.(syscall.Errno)
	}
	if got.Errno() != errno {
		t.Errorf("errno %v, want %v", got.Errno(), errno)
	}
}
