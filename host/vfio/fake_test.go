// SPDX-License-Identifier: Apache-2.0

package vfio_test

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"kindred/host/vfio"
)

// fake is a device with the traps of the real ones.
type fake struct {
	flags        vfio.Flags
	state        vfio.State
	header, body []byte // what it saves: header is PRE_COPY's

	end      error                 // of PRE_COPY, nil for zero bytes
	readMost int                   // bytes that one read gives
	takeMost int                   // bytes that one write takes; -1 for none
	stuck    bool                  // PRE_COPY wants something read that it does not give
	blocks   bool                  // reads and writes wait for Close
	readErr  map[int]error         // by offset
	writeErr map[int]error         // by offset, once: it is not sticky, and keeps the bytes
	setErr   map[vfio.State]*fault // what asking for a state gives
	sizeErr  error
	resetErr error

	asked    []vfio.State // all states that were asked for
	resets   int
	taken    []byte // what was written
	precopys int
	writes   int
	session  *fakeSession
	open     int // sessions that nobody closed
}

// fault is what goes wrong when a state is asked for.
type fault struct {
	err   error
	at    vfio.State // where the device is then
	times int
}

func newFake() *fake {
	return &fake{flags: vfio.FlagStopCopy | vfio.FlagP2P | vfio.FlagPreCopy, state: vfio.StateRunning,
		header: []byte("header"), body: []byte("the body of the device's state")}
}

func (f *fake) enter(s vfio.State)         { f.state = s }
func (f *fake) Info() (*vfio.Info, error)  { return &vfio.Info{API: "vfio-pci"}, nil }
func (f *fake) State() (vfio.State, error) { return f.state, nil }
func (f *fake) Close() error               { return nil }
func (f *fake) Migration() (vfio.Flags, error) {
	if f.flags&vfio.FlagStopCopy == 0 {
		return f.flags, fmt.Errorf("fake: %w", vfio.ErrNotMigratable)
	}
	return f.flags, nil
}
func (f *fake) DataSize() (uint64, error) { return uint64(len(f.header) + len(f.body)), f.sizeErr }
func (f *fake) ReadRegion(int, int64, []byte) error {
	return errors.New("a fake has no regions")
}
func (f *fake) WriteRegion(int, int64, []byte) error {
	return errors.New("a fake has no regions")
}

func (f *fake) Reset() error {
	f.resets++
	if f.resetErr != nil {
		return f.resetErr
	}
	f.enter(vfio.StateRunning)
	if f.session != nil {
		f.session.over = true
	}
	return nil
}

func (f *fake) SetState(to vfio.State) (vfio.Session, error) {
	f.asked = append(f.asked, to)
	if w := f.setErr[to]; w != nil && w.times > 0 {
		w.times--
		f.enter(w.at)
		return nil, fmt.Errorf("fake: set %s: %w", to, w.err)
	}
	from := f.state
	f.enter(to)
	switch {
	case to == from, to == vfio.StateStopCopy && (from == vfio.StatePreCopy || from == vfio.StatePreCopyP2P):
		return nil, nil // the session goes on
	case to == vfio.StateStopCopy, to == vfio.StatePreCopy, to == vfio.StatePreCopyP2P, to == vfio.StateResuming:
		f.session = &fakeSession{f: f, closed: make(chan struct{})}
		f.open++
		return f.session, nil
	}
	if f.session != nil {
		f.session.over = true
	}
	return nil, nil
}

type fakeSession struct {
	f      *fake
	at     int // of what is read
	over   bool
	once   sync.Once
	closed chan struct{}
}

// usable waits, where the fake blocks, for somebody who closes the session.
func (s *fakeSession) usable() error {
	if s.f.blocks {
		<-s.closed
	}
	select {
	case <-s.closed:
		return os.ErrClosed
	default:
	}
	if s.over {
		return syscall.ENODEV
	}
	return nil
}

func (s *fakeSession) running() bool {
	return s.f.state == vfio.StatePreCopy || s.f.state == vfio.StatePreCopyP2P
}

func (s *fakeSession) Read(p []byte) (int, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	all := s.f.header
	if !s.running() {
		all = append(append([]byte(nil), all...), s.f.body...)
	}
	if err := s.f.readErr[s.at]; err != nil {
		return 0, err
	}
	if s.at == len(all) || s.f.stuck && s.running() {
		if s.running() {
			return 0, s.f.end
		}
		return 0, nil
	}
	n := copy(p, all[s.at:])
	if s.f.readMost > 0 {
		n = min(n, s.f.readMost)
	}
	s.at += n
	return n, nil
}

func (s *fakeSession) Write(p []byte) (int, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	s.f.writes++
	if s.f.takeMost < 0 {
		return 0, nil
	}
	if s.f.takeMost > 0 {
		p = p[:min(len(p), s.f.takeMost)]
	}
	err := s.f.writeErr[len(s.f.taken)]
	s.f.taken = append(s.f.taken, p...)
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *fakeSession) Precopy() (vfio.PrecopyInfo, error) {
	s.f.precopys++
	if !s.running() {
		return vfio.PrecopyInfo{}, syscall.EINVAL
	}
	return vfio.PrecopyInfo{Initial: uint64(len(s.f.header) - s.at)}, nil
}

func (s *fakeSession) Close() error {
	s.once.Do(func() { s.f.open--; close(s.closed) })
	return nil
}
