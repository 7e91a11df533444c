// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kindred/api"
	"kindred/vm/vmtest"
)

// stage is libvirt, with what it says from when on.
type stage struct {
	begin time.Time
	acts  []act

	tries, redefined int
}

type act struct {
	at    time.Duration
	phase Phase // empty: it does not say
	other bool  // another domain of that UUID
	came  bool  // libvirt said that a migration brought it
}

func (s *stage) Look(context.Context, string) (Sight, error) {
	now := s.acts[0]
	for _, a := range s.acts {
		if time.Since(s.begin) >= a.at {
			now = a
		}
	}
	switch {
	case now.phase == "":
		return Sight{}, errors.New("no answer")
	case now.phase == Absent:
		return Sight{Phase: Absent, Came: now.came}, nil
	case now.other:
		return Sight{Phase: now.phase, Devices: []string{"another"}}, nil
	}
	return Sight{Phase: now.phase, Devices: []string{"a-disk", vmtest.OnTarget(mdev)}}, nil
}

// Redefine fails twice.
func (s *stage) Redefine(_ context.Context, uuid string, places map[string]string) error {
	s.tries++
	if s.tries < 3 {
		return errors.New("not yet")
	}
	if uuid == vmID && places[mdev] == vmtest.OnTarget(mdev) {
		s.redefined++
	}
	return nil
}

func (s *stage) Changed() <-chan struct{} { return nil }

const (
	refusedLog = `2026-11-23 09:00:00.000+0000: starting up libvirt version: 11.3.0
qemu-system-x86_64: error while loading state for instance 0x0 of device '0000:00:03.0/vfio'
qemu-system-x86_64: load of migration failed: Invalid argument
2026-11-23 09:00:03.000+0000: shutting down, reason=failed
`
	cutLog = `qemu-system-x86_64: error while loading state for instance 0x0 of device '0000:00:03.0/vfio'
qemu-system-x86_64: load of migration failed: Input/output error
`
	// What QEMU 10.0 prints under libvirt: the error goes over its monitor.
	writtenLog = `2026-11-23T10:31:53.537106Z qemu-system-x86_64: error while loading state section id 43(0000:00:01.0:00.0/vfio)
2026-11-23 10:31:53.600+0000: shutting down, reason=failed
2026-11-23T10:31:53.601000Z qemu-system-x86_64: terminating on signal 15 from pid 168 (libvirtd)
`
	socketLog = `qemu-system-x86_64: Unable to read from socket: Connection reset by peer
qemu-system-x86_64: error while loading state section id 43(0000:00:01.0:00.0/vfio)
`
	// What QEMU 10.0 prints on the target when a driver refuses the state at its end.
	resetLog = `2026-11-23T09:00:00.000000Z qemu-system-x86_64: ffff` + "f4f2-509f-382f-3c1e-e6bfe0fa1001" + `: Failed setting device state to RUNNING_P2P. Recover state is ERROR. Resetting device: Input/output error
`
	otherLog = `qemu-system-x86_64: 0000:00:03.0: Failed setting device state to RUNNING_P2P. Recover state is ERROR. Resetting device: Input/output error
`
	ramLog = `qemu-system-x86_64: error while loading state for instance 0x0 of device 'ram'
qemu-system-x86_64: load of migration failed: Invalid argument
`
)

// TestFollow: what is seen of the domain, and what the server is told.
func TestFollow(t *testing.T) {
	const s, min = time.Second, time.Minute
	for name, c := range map[string]struct {
		acts  []act
		state api.MigrationState // other than handed-over
		log   string
		down  time.Duration // the server is, until then

		said     string
		rejected bool
		reset    bool
		says     string        // with what the follower gives up
		most     time.Duration // until it knows; what it aborts it watches a little longer
	}{
		"it arrives":                 {acts: []act{{phase: Incoming}, {5 * s, Arrived, false, false}}, said: "complete x", most: 6 * s},
		"it is reset at the end":     {acts: []act{{phase: Incoming}, {5 * s, Arrived, false, false}}, log: resetLog, said: "complete with a rejection x", reset: true, most: 6 * s},
		"some device is":             {acts: []act{{phase: Incoming}, {5 * s, Arrived, false, false}}, log: otherLog, said: "complete with a rejection x", reset: true, most: 6 * s},
		"after it was said":          {acts: []act{{phase: Incoming}, {5 * s, Arrived, false, false}}, state: api.Completing, log: resetLog, said: "complete with a rejection x", reset: true, most: 6 * s},
		"it takes an hour":           {acts: []act{{phase: Absent}, {s, Incoming, false, false}, {60 * min, Arrived, false, false}}, said: "complete x", most: 61 * min},
		"it appears late":            {acts: []act{{phase: Absent}, {20 * s, Incoming, false, false}, {40 * s, Arrived, false, false}}, said: "complete x", most: 41 * s},
		"it never comes":             {acts: []act{{phase: Absent}}, said: "abort x", most: 32 * s},
		"it fails":                   {acts: []act{{phase: Incoming}, {4 * s, Absent, false, false}}, log: cutLog, said: "abort x", most: 5 * s},
		"the driver refuses":         {acts: []act{{phase: Incoming}, {4 * s, Absent, false, false}}, log: refusedLog, said: "abort x", rejected: true, most: 5 * s},
		"while it is written":        {acts: []act{{phase: Incoming}, {4 * s, Absent, false, false}}, log: writtenLog, said: "abort x", rejected: true, most: 5 * s},
		"the connection breaks":      {acts: []act{{phase: Incoming}, {4 * s, Absent, false, false}}, log: socketLog, said: "abort x", most: 5 * s},
		"after the source said so":   {acts: []act{{phase: Incoming}, {4 * s, Absent, false, false}}, state: api.Aborting, log: writtenLog, said: "abort x", rejected: true, most: 5 * s},
		"and it is over":             {acts: []act{{phase: Incoming}, {14 * s, Absent, false, false}}, state: api.Aborting, log: writtenLog, said: "abort x", rejected: true, most: 15 * s},
		"the source said so":         {acts: []act{{phase: Incoming}, {4 * s, Absent, false, false}}, state: api.Aborting, log: cutLog, most: 5 * s},
		"another device refuses":     {acts: []act{{phase: Incoming}, {4 * s, Absent, false, false}}, log: ramLog, said: "abort x", most: 5 * s},
		"a log of something else":    {acts: []act{{phase: Absent}}, log: refusedLog, said: "abort x", most: 32 * s},
		"another domain runs":        {acts: []act{{0, Arrived, true, false}}, said: "abort x", most: 32 * s},
		"libvirt restarts":           {acts: []act{{phase: Incoming}, {3 * s, "", false, false}, {70 * s, Arrived, false, false}}, said: "complete x", most: 71 * s},
		"libvirt restarts, in vain":  {acts: []act{{phase: Incoming}, {3 * s, "", false, false}, {70 * s, Absent, false, false}}, said: "abort x", most: 71 * s},
		"libvirt is gone":            {acts: []act{{phase: Incoming}, {3 * s, "", false, false}}, says: "deadline passed", most: 13 * min},
		"the server is gone a while": {acts: []act{{phase: Incoming}, {3 * s, Arrived, false, false}}, down: 5 * min, said: "complete x", most: 5*min + 6*s},
		// The VM came, and its user stopped it before the server could be told.
		"it came and went":         {acts: []act{{phase: Incoming}, {3 * s, Arrived, false, false}, {20 * s, Absent, false, false}}, down: min, said: "complete x", most: min + 6*s},
		"it came and went at once": {acts: []act{{phase: Incoming}, {3 * s, Absent, false, true}}, said: "complete x", most: 4 * s},
		"another one came":         {acts: []act{{0, Absent, false, true}}, said: "abort x", most: 32 * s},
		"somebody gave it up":      {acts: []act{{phase: Incoming}, {3 * s, Arrived, false, false}}, state: api.Aborting, said: "complete x", most: 4 * s},
		"it was never handed on":   {acts: []act{{phase: Absent}}, state: api.Prepared, said: "abort x", most: 32 * s},
		"it is over":               {acts: []act{{phase: Incoming}}, state: api.Aborted, most: beyond},
		"it is said already":       {acts: []act{{phase: Arrived}}, state: api.Completing, most: 2 * s},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				if c.state == "" {
					c.state = api.HandedOver
				}
				begin := time.Now()
				server := &vmtest.Fleet{Takes: 10 * time.Second, Known: []*api.Migration{vmtest.Begun("x", c.state, vmID, mdev, "b")}}
				server.Known[0].Deadline = begin.Add(10 * time.Minute)
				server.Down = func(string) error {
					if time.Since(begin) < c.down {
						return vmtest.ErrDown
					}
					return nil
				}
				libvirt := &stage{begin: begin, acts: c.acts}
				f := &Follower{Fleet: server, Domains: libvirt, Moves: &Moves{dir}, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
				f.ReadLog = func(name string, from int64) []byte {
					if name != "desk" || from != 77 {
						t.Errorf("it reads the log of %s from %d", name, from)
					}
					return []byte(c.log)
				}
				move := &Move{Migration: "x", Domain: vmID, Name: "desk", Devices: []string{vmtest.OnTarget(mdev)}, Places: map[string]string{mdev: vmtest.OnTarget(mdev)}, Began: begin, Deadline: begin.Add(10 * time.Minute), Log: 77}
				err := f.Run(t.Context(), move)
				if took := time.Since(begin); took > c.most+20*time.Second {
					t.Errorf("it took %s", took)
				}
				if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want %q", err, c.says)
				}
				if said := strings.Join(server.Said, ", "); said != c.said {
					t.Errorf("it said %q, want %q", said, c.said)
				}
				if came := strings.HasPrefix(c.said, "complete ") || c.state == api.Completing; (libvirt.redefined == 1) != came || libvirt.redefined > 1 {
					t.Errorf("what is defined was changed %d times", libvirt.redefined)
				}
				if reset := server.Resets; (len(reset) == 1) != c.reset || c.reset && (reset[0].Device != move.Devices[0] || !strings.Contains(reset[0].Error, "RUNNING_P2P")) {
					t.Errorf("reset: %+v", reset)
				}
				if rejected := server.End.Rejected != ""; rejected != c.rejected || rejected && !strings.Contains(server.End.Rejected, "/vfio") {
					t.Errorf("rejected: %q", server.End.Rejected)
				}
			})
		})
	}
}

// TestBegunAgain: a second attempt of the same migration has its own time to come,
// also with the follower of the first.
func TestBegunAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		server := &vmtest.Fleet{Known: []*api.Migration{vmtest.Begun("x1", api.HandedOver, vmID, mdev, "b")}}
		libvirt := &stage{begin: time.Now(), acts: []act{{phase: Incoming}, {20 * time.Second, Absent, false, false}, {45 * time.Second, Incoming, false, false}, {50 * time.Second, Arrived, false, false}}}
		f := &Follower{Fleet: server, Domains: libvirt, Moves: &Moves{dir}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), ReadLog: func(string, int64) []byte { return nil }}
		move := &Move{Migration: "x1", Domain: vmID, Name: "desk", Devices: []string{vmtest.OnTarget(mdev)}, Began: time.Now(), Deadline: time.Now().Add(time.Hour)}
		if err := f.Moves.Write(move); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(19*time.Second, func() {
			again := *move
			again.Began = time.Now()
			if err := f.Moves.Write(&again); err != nil {
				t.Error(err)
			}
		})
		if err := f.Run(t.Context(), move); err != nil {
			t.Fatal(err)
		}
		if said := strings.Join(server.Said, ", "); said != "complete x1" {
			t.Errorf("it said %q", said)
		}
		// It is on the disk that the domain came, for a follower after this one.
		left, err := f.Moves.read("x1")
		if err != nil || left.Arrived.IsZero() {
			t.Fatalf("%+v, %v", left, err)
		}
		server.Known[0].State, server.Said = api.HandedOver, nil
		libvirt.acts = []act{{phase: Absent}}
		next := &Follower{Fleet: server, Domains: libvirt, Moves: f.Moves, Log: f.Log, ReadLog: f.ReadLog}
		if err := next.Run(t.Context(), left); err != nil || strings.Join(server.Said, ", ") != "complete x1" {
			t.Errorf("the next one said %q, %v", server.Said, err)
		}
	})
}

// TestForgotten: a migration that the fleet does not know any more is not followed.
func TestForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &vmtest.Fleet{Known: []*api.Migration{vmtest.Begun("x", api.HandedOver, vmID, mdev, "b")}, Down: func(string) error { return api.NewProblem(api.NotFound, "migration x") }}
		f := &Follower{Fleet: server, Domains: &stage{time.Now(), []act{{phase: Absent}}, 0, 0}, Moves: new(Moves), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
		begin := time.Now()
		err := f.Run(t.Context(), &Move{Migration: "x", Began: begin, Deadline: begin.Add(time.Hour)})
		if err != nil || time.Since(begin) > time.Minute || len(server.Said) > 0 {
			t.Errorf("%v after %s, and it said %q", err, time.Since(begin), server.Said)
		}
	})
}
