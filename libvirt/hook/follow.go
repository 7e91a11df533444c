// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"kindred/api"
	"kindred/vm"
)

// Phase is how far a domain is on the host that it comes to.
type Phase string

const (
	Absent   Phase = "absent"   // there is no such domain, or nothing of it runs
	Incoming Phase = "incoming" // it waits for its state
	Arrived  Phase = "arrived"  // it has its state, and runs or is paused by its user
)

// Sight is what libvirt says of a domain.
type Sight struct {
	Phase   Phase
	Devices []string // of the host, sorted; of one that is there
	// Came says that a migration brought it, as libvirt told when it did. It may be
	// no more.
	Came bool
}

// Domains is libvirt on this host.
type Domains interface {
	// Look says how a domain is. An error means that it is not known.
	Look(ctx context.Context, uuid string) (Sight, error)
	// Redefine puts other devices into what is defined of a domain for its next
	// start: libvirt takes that from the source as it is, past the hook.
	Redefine(ctx context.Context, uuid string, places map[string]string) error
	// Changed is told of every change of any domain, and nil where none is told.
	Changed() <-chan struct{}
}

// Follower finds out how one move ends, and tells the server.
type Follower struct {
	Fleet   vm.Fleet
	Domains Domains
	Moves   *Moves
	Log     *slog.Logger
	// Grace is how long a domain may take to appear after the hook said yes; 0: 30 s.
	Grace time.Duration
	// ReadLog is QEMU's log of a domain from an offset.
	ReadLog func(name string, from int64) []byte

	seen      bool      // the domain was here
	arrived   time.Time // when it was seen to have its state
	gone      time.Time // when it was seen to be here no more, without having arrived
	redefined bool      // its definition was looked at
	told      bool      // the server knows all that there is to be told
}

// How often is looked without a reason, at the domain and at the server.
const (
	lookEvery = 500 * time.Millisecond
	askEvery  = 5 * time.Second
	// logTakes is how long what QEMU prints may take into its log.
	logTakes = time.Second
	// beyond is how long a follower goes on after the deadline of a migration whose
	// domain is not on its way any more: the server settles it then.
	beyond = 2 * time.Minute
	// longest is how long the server is tried that is to be told of an arrival.
	longest = 24 * time.Hour
)

// Run follows a move until it is over, or nothing more can be found out.
func (f *Follower) Run(ctx context.Context, move *Move) error {
	if f.Grace == 0 {
		f.Grace = 30 * time.Second
	}
	f.arrived = move.Arrived
	var m *api.Migration
	var asked time.Time
	said := ""
	warn := func(err error) { // once, while it stays the same
		if text := fmt.Sprint(err); err != nil && text != said {
			f.Log.Warn("follow a migration", "migration", move.Migration, "domain", move.Name, "err", err)
			said = text
		}
	}
	for {
		sight, lost := f.Domains.Look(ctx, move.Domain)
		if lost == nil {
			f.seen = f.seen || f.here(sight, move)
		}
		word, reason := wait, ""
		if lost == nil {
			word, reason = f.judge(sight, move, time.Now())
		}
		switch {
		case word == complete:
			warn(f.redefine(ctx, move))
		case word == abort && f.begunAgain(move):
			continue
		}
		if word != wait || time.Since(asked) > askEvery {
			asked = time.Now()
			now, err := f.Fleet.Migration(ctx, move.Migration)
			if err == nil {
				m = now
				now, err = f.say(ctx, m, move, word, reason)
			}
			switch {
			case errors.Is(err, &api.Problem{Code: api.NotFound}):
				f.Log.Warn("the fleet does not know the migration any more", "migration", move.Migration, "domain", move.Name)
				return nil
			case err != nil:
				warn(err)
			case now.State.Over() && (f.told || !f.seen || time.Since(now.Changed) > beyond), now.State == api.Completing && f.told:
				f.Log.Info("a migration ended", "migration", now.ID, "state", now.State, "reason", now.Reason)
				return nil
			default:
				m = now
			}
		}
		warn(lost)
		end := move.Deadline
		if m != nil && m.Deadline.After(end) {
			end = m.Deadline
		}
		unclear := f.arrived.IsZero() && (lost != nil || sight.Phase == Absent)
		if time.Since(end) > beyond && unclear || !f.arrived.IsZero() && time.Since(f.arrived) > longest {
			return fmt.Errorf("migration %s: its deadline passed, and it is not known how it ended: the server finds out from both hosts", move.Migration)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.Domains.Changed():
		case <-time.After(lookEvery):
		}
	}
}

// begunAgain reports whether the hook was called for the migration once more: what
// was seen before is of no account then.
func (f *Follower) begunAgain(move *Move) bool {
	now, err := f.Moves.read(move.Migration)
	if err != nil || !now.Began.After(move.Began) {
		return false
	}
	*move = *now
	f.seen, f.gone = false, time.Time{}
	return true
}

// redefine has the domain's definition follow it, once.
func (f *Follower) redefine(ctx context.Context, move *Move) error {
	if f.redefined || len(move.Places) == 0 {
		return nil
	}
	f.redefined = true
	if crossed(move.Places) {
		// It could be told neither which ones the definition has, nor, after this
		// process was stopped, whether they were put in already.
		return fmt.Errorf("look at what is defined of %s: its devices became each other's (%v)", move.Name, move.Places)
	}
	for begin := time.Now(); ; {
		err := f.Domains.Redefine(ctx, move.Domain, move.Places)
		if err == nil {
			return nil
		}
		if time.Since(begin) > vm.Patience {
			return fmt.Errorf("what is defined of %s still has the devices of its source (%v); put these in by virsh edit: %w", move.Name, move.Places, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * lookEvery):
		}
	}
}

// here reports whether what is seen is the domain of this move: it has the
// devices that were handed over.
func (f *Follower) here(s Sight, move *Move) bool {
	return s.Phase != Absent && !slices.ContainsFunc(move.Devices, func(d string) bool { return !slices.Contains(s.Devices, d) })
}

type word int

const (
	wait word = iota
	complete
	abort
)

// judge says what is to be said of what is seen.
func (f *Follower) judge(s Sight, move *Move, now time.Time) (word, string) {
	here := f.here(s, move)
	switch {
	case f.arrived.IsZero() && (here && s.Phase == Arrived || f.seen && s.Came):
		f.arrived, move.Arrived = now, now
		if err := f.Moves.Write(move); err != nil {
			f.Log.Warn("note that a domain arrived", "domain", move.Name, "err", err)
		}
	case f.gone.IsZero() && f.arrived.IsZero() && f.seen && !here:
		f.gone = now
	}
	switch {
	case now.Sub(f.arrived) < logTakes || now.Sub(f.gone) < logTakes:
		return wait, ""
	case !f.arrived.IsZero(): // also if it ended meanwhile, and the server was not told
		return complete, ""
	case here:
		return wait, ""
	case f.seen:
		return abort, "the VM did not arrive: it is not on the target any more"
	case now.Sub(move.Began) > f.Grace:
		return abort, fmt.Sprintf("the VM did not come to the target within %s", f.Grace)
	}
	return wait, ""
}

// say tells the server what was found out, unless it knows.
func (f *Follower) say(ctx context.Context, m *api.Migration, move *Move, w word, reason string) (*api.Migration, error) {
	var err error
	switch {
	case f.told || w == wait:
		return m, nil
	case w == complete:
		rejected := resets(f.ReadLog(move.Name, move.Log), move.Devices)
		for _, r := range rejected {
			f.Log.Error("a driver refused the state of a device at its end: it was reset, and the VM runs on without it", "domain", move.Name, "device", r.Device, "err", r.Error)
		}
		if len(rejected) > 0 && m.State != api.Aborted || m.State == api.HandedOver || m.State == api.Aborting {
			m, err = f.Fleet.CompleteWith(ctx, m.ID, &api.Completion{Rejected: rejected})
		}
	case w == abort:
		a := &api.Abort{Reason: reason}
		if f.seen && m.State != api.Prepared && m.State != api.Claimed {
			a.Rejected = Rejection(f.ReadLog(move.Name, move.Log))
		}
		over := m.State == api.Aborting || m.State == api.Aborted
		if !over && m.State != api.Completing && m.State != api.Completed || over && a.Rejected != "" {
			m, err = f.Fleet.Abort(ctx, m.ID, a)
		}
	}
	f.told = err == nil
	return m, err
}
