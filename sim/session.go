// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"sync"

	"golang.org/x/sys/unix"

	"kindred/host/vfio"
)

// session is the data file of a save or a load.
type session struct {
	device *device
	takes  bool // it is a load's
	over   bool // the state machine went on
	at     uint64
	ended  chan struct{}
	once   sync.Once
}

var _ vfio.Session = (*session)(nil)

// begin counts an operation and takes the device for it.
func (s *session) begin(op Op, at, size uint64) error {
	d := s.device
	select {
	case <-s.ended:
		return d.errorf(op, unix.EBADF)
	default:
	}
	if err := d.strike(op, at, size, d.closed, s.ended); err != nil {
		return err
	}
	d.mu.Lock()
	return nil
}

func (s *session) Read(p []byte) (int, error) {
	d := s.device
	if s.takes {
		return 0, d.errorf(OpRead, unix.EBADF) // O_WRONLY
	}
	if len(p) == 0 {
		return 0, nil
	}
	p = p[:d.faults.upTo(s.at, uint64(len(p)))]
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.begin(OpRead, s.at, uint64(len(p))); err != nil {
		return 0, err
	}
	defer d.mu.Unlock()
	if s.over {
		return 0, d.errorf(OpRead, unix.ENODEV)
	}
	m := imageOf(d.driver, d.typ, d.contents.features)
	if d.mig != sStopCopy {
		left := imageHeader - min(s.at, imageHeader)
		p = p[:min(uint64(len(p)), left)]
		if len(p) == 0 {
			if d.driver.Migration.PreCopyZero {
				return 0, nil
			}
			return 0, d.errorf(OpRead, unix.ENOMSG)
		}
	}
	n := m.read(&d.driver.Migration, &d.contents, p, s.at)
	s.at += uint64(n)
	return n, nil
}

func (s *session) Write(p []byte) (int, error) {
	d := s.device
	if !s.takes {
		return 0, d.errorf(OpWrite, unix.EBADF) // O_RDONLY
	}
	if err := s.begin(OpWrite, s.at, uint64(len(p))); err != nil {
		return 0, err
	}
	defer d.mu.Unlock()
	if s.over || d.loading == nil {
		return 0, d.errorf(OpWrite, unix.ENODEV)
	}
	n, err := d.loading.write(p)
	s.at += uint64(len(p))
	if err != nil {
		d.say(d.loading.why)
		return n, d.errorf(OpWrite, err)
	}
	return n, nil
}

func (s *session) Precopy() (vfio.PrecopyInfo, error) {
	d := s.device
	if err := s.begin(OpPrecopy, 0, 0); err != nil {
		return vfio.PrecopyInfo{}, err
	}
	defer d.mu.Unlock()
	switch {
	case s.takes:
		return vfio.PrecopyInfo{}, d.errorf(OpPrecopy, unix.ENOTTY)
	case s.over:
		return vfio.PrecopyInfo{}, d.errorf(OpPrecopy, unix.ENODEV)
	case d.mig != sPreCopy && d.mig != sPreCopyP2P:
		return vfio.PrecopyInfo{}, d.errorf(OpPrecopy, unix.EINVAL)
	}
	return vfio.PrecopyInfo{Initial: imageHeader - min(s.at, imageHeader)}, nil
}

// Close closes the file. The device's state stays what it is.
func (s *session) Close() error {
	err := s.device.strike(OpEnd, 0, 0, nil, nil)
	closed := false
	s.once.Do(func() { closed = true; close(s.ended) })
	if !closed {
		return s.device.errorf(OpEnd, unix.EBADF)
	}
	return err
}
