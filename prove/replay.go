// SPDX-License-Identifier: Apache-2.0

package prove

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"kindred/host/vfio"
	"kindred/stream"
)

// Attempt is what came of one replay.
type Attempt struct {
	// Taken is true when the driver took the whole state and runs.
	Taken bool `json:"taken"`
	// Verified is true when what a guest sees was compared, and equal.
	Verified bool `json:"verified"`
	// Problem says how it ended otherwise: the driver's refusal, or what a
	// guest would notice. Two tries that end alike have the same.
	Problem string `json:"problem,omitempty"`
	// Fault is true when it may have come from elsewhere than from the two
	// drivers: it tells nothing about them.
	Fault bool `json:"fault,omitempty"`
}

// good is true for a state that arrived, as far as could be seen.
func (a *Attempt) good() bool { return a.Taken && a.Problem == "" }

// String is the attempt for people.
func (a *Attempt) String() string {
	switch {
	case a.Fault:
		return "it tells nothing: " + a.Problem
	case a.Taken && a.Problem != "":
		return "taken, but " + a.Problem
	case a.Verified:
		return "taken, and the same to a guest"
	case a.Taken:
		return "taken"
	}
	return "refused: " + a.Problem
}

// whole replays all of a recording.
const whole = -1

// replay gives a recording, or its first bytes, to a fresh canary of the side.
// The error is ctx's end, or that no canary may be made there: everything else is
// what came of the attempt.
func (p *Prover) replay(ctx context.Context, s *Side, r *Recording, bytes int64) (Attempt, error) {
	var a Attempt
	err := withCanary(ctx, s, func(_ string, d vfio.Device) (err error) {
		a, err = p.load(ctx, s, d, r, bytes)
		return err
	})
	switch {
	case ctx.Err() != nil && errors.Is(err, ErrLeft), NoCanary(err):
		return a, fmt.Errorf("replay into %s: %w", s, err)
	case ctx.Err() != nil:
		return a, fmt.Errorf("replay into %s: %w", s, context.Cause(ctx))
	case errors.Is(err, vfio.ErrNotMigratable):
		return Attempt{Fault: true, Problem: vfio.ErrNotMigratable.Error()}, nil
	case err != nil:
		return Attempt{Fault: true, Problem: err.Error()}, nil
	}
	return a, nil
}

// load replays into an open device. An error is a fault.
func (p *Prover) load(ctx context.Context, s *Side, d vfio.Device, r *Recording, bytes int64) (Attempt, error) {
	seen, err := look(d)
	if err != nil {
		return Attempt{}, err
	}
	if problem := r.notes.Visible.differs(seen); problem != "" {
		return Attempt{Problem: problem}, nil
	}
	payload, err := r.payload()
	if err != nil {
		return Attempt{}, err
	}
	total := r.size
	if bytes != whole {
		payload, total = io.LimitReader(payload, bytes), bytes
	}
	_, err = vfio.Load(ctx, d, payload, vfio.LoadOptions{Progress: p.progress("replay into "+s.String(), total)})
	if problem := refusal(err); problem != "" {
		return Attempt{Problem: problem}, nil
	}
	if err != nil {
		return Attempt{}, err
	}
	if bytes != whole {
		return Attempt{Taken: true}, nil
	}
	return compare(d, r.notes)
}

// compare makes a device run that took a state, and holds what a guest sees of
// it against what was noted of the one that gave it.
func compare(d vfio.Device, n *Notes) (Attempt, error) {
	if _, err := d.SetState(vfio.StateRunning); err != nil {
		if errno, ok := drivers(err); ok {
			return Attempt{Problem: fmt.Sprintf("it does not run after the load: %v", errno)}, nil
		}
		return Attempt{}, err
	}
	a := Attempt{Taken: true}
	for _, step := range []struct {
		noted []Seen
		when  string
	}{{n.Saved, "after the load"}, {n.GoneOn, "after working on"}} {
		list := accessesOf(step.noted)
		now, err := observe(d, list)
		if err != nil {
			return Attempt{}, err
		}
		if problem := changed(step.noted, now); problem != "" {
			a.Problem = problem + " " + step.when
			return a, nil
		}
		a.Verified = len(list) > 0
		if step.when == "after the load" {
			if err := exercise(d, n.Exercise); err != nil {
				return Attempt{}, err
			}
		}
	}
	return a, nil
}

// refusal is the driver's own word against a state, empty for anything else.
func refusal(err error) string {
	refused, ok := errors.AsType[*vfio.Error](err)
	if !ok || refused.Kind != vfio.KindRefused || refused.Step == vfio.StepAsk || refused.Step == vfio.StepReset {
		return ""
	}
	errno, own := drivers(refused)
	if !own {
		return ""
	}
	return fmt.Sprintf("%v, at the step %s after %d bytes", errno, refused.Step, refused.At)
}

// drivers returns the errno of an error if it can be a driver's judgement of a
// state. The others say that something did not work: memory or a bus, a
// signal, a busy device. A driver that refuses with one of those stays
// unproved. ENOMEM is also the word of mtty, hisi_acc, qat and mlx5 for a state
// that is too long; but a state that is larger than the target's own can run out
// of memory each time while the controls pass.
func drivers(err error) (syscall.Errno, bool) {
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok || isStream(err) {
		return 0, false
	}
	switch errno {
	case syscall.EIO, syscall.EINTR, syscall.EAGAIN, syscall.EBUSY, syscall.ETIMEDOUT, syscall.ECANCELED, syscall.ENOSPC, syscall.ENOMEM, syscall.ENOBUFS,
		syscall.EPERM, syscall.EACCES, syscall.EBADF, syscall.EMFILE, syscall.ENFILE, syscall.EPIPE, syscall.ECONNRESET, syscall.EDQUOT:
		return errno, false
	}
	return errno, true
}

func isStream(err error) bool {
	_, ok := errors.AsType[*stream.Error](err)
	return ok
}
