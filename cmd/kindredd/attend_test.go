// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAttend: the service manager hears that the server answers, again and again,
// and that it stops.
func TestAttend(t *testing.T) {
	dir := t.TempDir()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "notify"))
	t.Setenv("WATCHDOG_USEC", "300000")
	// All is heard at once: the queue of a socket is short, and a server that is
	// about to stop must not find it full.
	said := make(chan string, 1000)
	go func() {
		defer close(said)
		buf := make([]byte, 100)
		for {
			n, err := l.Read(buf)
			if err != nil {
				return
			}
			said <- string(buf[:n])
		}
	}()
	hears := func(want string) {
		t.Helper()
		for late := time.After(time.Minute); ; {
			select {
			case got := <-said:
				if strings.Contains(got, want) {
					return
				}
			case <-late:
				t.Fatalf("it does not say %s", want)
			}
		}
	}
	t.Cleanup(func() { hears("STOPPING=1") }) // after the server was told to
	serve(t, dir)
	hears("READY=1")
	hears("WATCHDOG=1")
	hears("WATCHDOG=1")
}
