// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestManager: what systemd said, and what it hears.
func TestManager(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s")
	for _, name := range []string{file, "@kindred-test-" + strconv.FormatInt(time.Now().UnixNano(), 36)} {
		path := name
		if name[0] == '@' {
			path = "\x00" + name[1:]
		}
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		env := map[string]string{"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000000"}
		s := Of(func(key string) string { return env[key] })
		if s.Watchdog != 30*time.Second {
			t.Errorf("the watchdog wants to hear within %v", s.Watchdog)
		}
		if err := s.Tell("READY=1", "WATCHDOG=1"); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64)
		if n, err := l.Read(buf); err != nil || string(buf[:n]) != "READY=1\nWATCHDOG=1" {
			t.Errorf("%q, %v", buf[:n], err)
		}
		l.Close()
	}
	other := map[string]string{"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
	if s := Of(func(key string) string { return other[key] }); s.Watchdog != 0 || s.Tell("READY=1") != nil {
		t.Errorf("another process is watched: %+v", s)
	}
}

// TestStuck: a manager that does not listen any more holds nobody up for ever.
func TestStuck(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := Manager{socket: name, patience: 100 * time.Millisecond}
	ended := make(chan error, 1)
	go func() {
		for { // until its queue is full
			if err := s.Tell("WATCHDOG=1"); err != nil {
				ended <- err
				return
			}
		}
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it still tells one who does not listen")
	}
}
