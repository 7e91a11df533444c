// SPDX-License-Identifier: Apache-2.0

package vfio

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// shared is a descriptor that one goroutine may close while another uses it: the
// number is given back to the kernel when its last use is over, so that it never
// means another file.
type shared struct {
	mu      sync.Mutex
	fd      int
	users   int
	closing bool
	after   func() // what to give up once it is closed
}

// use returns the number until done is called, or os.ErrClosed.
func (s *shared) use() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return -1, os.ErrClosed
	}
	s.users++
	return s.fd, nil
}

func (s *shared) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users--
	s.free()
}

// close says whether it was the first to close.
func (s *shared) close() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.closing = true
	s.free()
	return true
}

func (s *shared) free() {
	if s.closing && s.users == 0 {
		unix.Close(s.fd) // no error of closing these files leaves them open
		if s.after != nil {
			s.after()
		}
	}
}
