// SPDX-License-Identifier: Apache-2.0

package vfio

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// session is a Session of the kernel: a data_fd.
//
// Closing wakes who waits for data. It does not wake who is inside a driver's own
// read or write: most drivers' files know neither poll nor O_NONBLOCK, and their
// calls end when they end.
type session struct {
	device *device
	file   shared
	wake   int // an eventfd that is readable once the session is closed
}

// newSession takes the descriptor.
func (d *device) newSession(fd int) (*session, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	// mlx5 and virtio block in read without it. The others do not care.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		unix.Close(wake)
		return nil, fmt.Errorf("make its file not block: %w", err)
	}
	s := &session{device: d, wake: wake}
	s.file = shared{fd: fd, after: func() { unix.Close(wake) }}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sessions[s] = true
	return s, nil
}

// Read reads first and polls only when there is nothing for now: mlx5 does not say
// "ready" when all that PRE_COPY can give is ENOMSG (mlx5vf_save_poll).
func (s *session) Read(p []byte) (n int, err error) {
	fd, err := s.file.use()
	if err != nil {
		return 0, s.fail("read", err)
	}
	defer s.file.done()
	for try := 0; ; try++ {
		withoutSignals(func() { n, err = unix.Read(fd, p) })
		if err == nil {
			return n, nil
		}
		if err == unix.EAGAIN {
			if try > 0 { // it said that it was ready
				time.Sleep(busyWait)
			}
			err = s.wait(fd)
		}
		if err != nil {
			return 0, s.fail("read", err)
		}
	}
}

// Write passes every errno on. EAGAIN too: no driver means by it that there is no
// room for now, but mlx5's firmware has a status that becomes it.
func (s *session) Write(p []byte) (n int, err error) {
	fd, err := s.file.use()
	if err != nil {
		return 0, s.fail("write", err)
	}
	defer s.file.done()
	withoutSignals(func() { n, err = unix.Write(fd, p) })
	if err != nil {
		return 0, s.fail("write", err)
	}
	return n, nil
}

// busyWait is for how long a driver that says "try again" and "ready" at once is
// left alone.
const busyWait = time.Millisecond

// wait returns when the driver has data, or with os.ErrClosed when the session was
// closed.
func (s *session) wait(fd int) error {
	fds := [...]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(s.wake), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds[:], -1)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case fds[1].Revents != 0:
			return os.ErrClosed
		}
		return nil
	}
}

func (s *session) Precopy() (PrecopyInfo, error) {
	fd, err := s.file.use()
	if err != nil {
		return PrecopyInfo{}, s.fail("ask what is left", err)
	}
	defer s.file.done()
	info := precopyInfo{}
	info.argsz = sizeof(&info)
	if _, err := ioctl(fd, migGetPrecopyInfo, unsafe.Pointer(&info)); err != nil {
		return PrecopyInfo{}, s.fail("ask what is left", err)
	}
	return PrecopyInfo{Initial: info.initial, Dirty: info.dirty}, nil
}

func (s *session) Close() error {
	s.device.mu.Lock()
	delete(s.device.sessions, s)
	s.device.mu.Unlock()
	fd, err := s.file.use()
	if err != nil {
		return nil // it was closed before
	}
	_ = fd
	one := [8]byte{1} // any value but 0 wakes, in either byte order
	_, err = unix.Write(s.wake, one[:])
	s.file.close()
	s.file.done()
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		return s.fail("wake its reader", err)
	}
	return nil
}

func (s *session) fail(what string, err error) error {
	return fmt.Errorf("VFIO device %s: %s of its state: %w", s.device.id, what, err)
}

var allSignals = func() (set unix.Sigset_t) {
	for i := range set.Val {
		set.Val[i] = ^set.Val[i]
	}
	return set
}()

// withoutSignals keeps this thread's signals, the Go runtime's own among them, out
// of a driver: xe returns EINTR from the middle of a read or write, when some of
// the bytes are gone already. SIGKILL still ends what can be ended.
func withoutSignals(do func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &allSignals, &old); err != nil {
		do()
		return
	}
	do()
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) // it cannot fail when the other did not
}
