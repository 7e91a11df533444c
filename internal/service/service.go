// SPDX-License-Identifier: Apache-2.0

// Package service speaks with the service manager that started a program, as
// sd_notify(3) describes it. It promises that a program that nobody manages so
// behaves the same, and that a manager that does not listen is no fault of the
// program.
package service

import (
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Manager is the service manager that started this process. The zero value is
// none.
type Manager struct {
	socket   string
	patience time.Duration // how long it may take to listen
	// Watchdog is within what time the manager wants to hear that the process
	// works; 0: it does not.
	Watchdog time.Duration
}

// Of reads what the manager said in the environment.
func Of(getenv func(string) string) Manager {
	s := Manager{socket: getenv("NOTIFY_SOCKET"), patience: 10 * time.Second}
	if pid := getenv("WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
		if us, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 {
			s.Watchdog = time.Duration(us) * time.Microsecond
		}
	}
	return s
}

// Tell tells the manager how the process is: READY=1, WATCHDOG=1, STOPPING=1.
// A manager that does not listen is no fault of the process.
func (s Manager) Tell(state ...string) error {
	if s.socket == "" {
		return nil
	}
	name := s.socket
	if strings.HasPrefix(name, "@") { // abstract
		name = "\x00" + name[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	// One that is stuck has a full queue, at which a write waits.
	if err := conn.SetWriteDeadline(time.Now().Add(s.patience)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(strings.Join(state, "\n")))
	return err
}
