// SPDX-License-Identifier: Apache-2.0

package prove

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"kindred/compat"
	"kindred/host/vfio"
	"kindred/inventory"
)

// Prover makes proofs, one after the other.
type Prover struct {
	Engine  *compat.Engine
	Version string           // of Kindred, for recordings
	Now     func() time.Time // the clock
	Scratch string           // a directory for recordings; empty: the system's for temporary files
	Tries   int              // how often a transfer is tried, at least 2
	// Progress is told what is going on; nil for nobody. It is called often.
	Progress func(Step)

	// What is known of targets already: one is not read and tried anew for each
	// of many recordings.
	offers   map[Side]*compat.Offer
	controls map[Side]*control
}

// Step is what a proof is at.
type Step struct {
	What  string // "record mtty-2 on mtty"
	Bytes int64  // moved so far
	Total int64  // 0: not known
}

func (p *Prover) progress(what string, total int64) vfio.Progress {
	if p.Progress == nil {
		return nil
	}
	return func(_ vfio.State, bytes int64) { p.Progress(Step{what, bytes, total}) }
}

// Prove proves a transfer from one side to another. The error is that no proof
// was made at all: a side that does not offer its type or must not have
// canaries, a build that is not known, an end of ctx.
func (p *Prover) Prove(ctx context.Context, from, to *Side) (*compat.Proof, error) {
	r, heard, err := p.Give(ctx, from)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	proof, err := p.Replay(ctx, r, to)
	if err == nil {
		proof.Log = append(heard, proof.Log...)
	}
	return proof, err
}

// Give is the source's half of a proof: a recording, which the source was tried
// with, and what the kernel said meanwhile.
func (p *Prover) Give(ctx context.Context, from *Side) (_ *Recording, heard []string, err error) {
	listen := from.Host.Listen()
	r, err := p.Record(ctx, from)
	if err != nil {
		listen(nil)
		return nil, nil, err
	}
	err = p.Control(ctx, r, from)
	heard = listen(subjects(from, r))
	if err != nil {
		return nil, nil, errors.Join(err, r.Close())
	}
	return r, heard, nil
}

// Control replays a recording into the side it came from, and notes what came
// of it.
func (p *Prover) Control(ctx context.Context, r *Recording, s *Side) error {
	if p.Engine.Policy(s.Type).Canaries == compat.CanariesUnsafe {
		return fmt.Errorf("%s: %w", s, ErrUnsafe) // a device's recording is no canary's
	}
	a, err := p.replay(ctx, s, r, whole)
	if err != nil {
		return err
	}
	r.notes.Control = &a
	return nil
}

// Replay proves a transfer from where a recording was made to a side.
func (p *Prover) Replay(ctx context.Context, r *Recording, to *Side) (*compat.Proof, error) {
	source := p.Engine.Source(r.header.Inventory, r.header.Device())
	target, err := p.offer(ctx, to)
	if err != nil {
		return nil, err
	}
	policy := p.Engine.Policy(to.Type)
	if policy.Canaries == compat.CanariesUnsafe {
		return nil, fmt.Errorf("%s: %w", to, ErrUnsafe)
	}
	proof, err := p.Engine.About(source, target)
	if err != nil {
		return nil, fmt.Errorf("prove: %w", err)
	}
	proof.Grade, proof.Time, proof.Result = r.notes.grade(), p.Now().UTC(), compat.Inconclusive
	listen := to.Host.Listen()
	t := trial{prover: p, recording: r, to: to, proof: &proof, policy: policy}
	err = t.run(ctx)
	proof.Log = listen(subjects(to, r))
	if err != nil {
		return nil, err
	}
	now, err := to.offer(ctx, p.Engine)
	if err != nil {
		return nil, err
	}
	if now.Build().ID != target.Build().ID {
		return nil, fmt.Errorf("%s: %w", to, ErrReloaded)
	}
	return &proof, nil
}

// offer is what the target's inventory said of it when it was first asked.
func (p *Prover) offer(ctx context.Context, s *Side) (*compat.Offer, error) {
	if o, ok := p.offers[*s]; ok {
		return o, nil
	}
	o, err := s.offer(ctx, p.Engine)
	if err != nil {
		return nil, err
	}
	if p.offers == nil {
		p.offers = make(map[Side]*compat.Offer)
	}
	p.offers[*s] = o
	return o, nil
}

// trial is one proof being made.
type trial struct {
	prover    *Prover
	recording *Recording
	to        *Side
	proof     *compat.Proof
	policy    compat.ProofPolicy
	target    *control
}

// run fills in the proof. The error is ctx's end, or that no canary may be made.
func (t *trial) run(ctx context.Context) (err error) {
	if t.target, err = t.prover.control(ctx, t.to); err != nil {
		return err
	}
	var tries []Attempt
	for range max(t.prover.Tries, 2) {
		a, err := t.prover.replay(ctx, t.to, t.recording, whole)
		if err != nil {
			return err
		}
		tries = append(tries, a)
	}
	failed := t.failedControl()
	if slices.ContainsFunc(tries, func(a Attempt) bool { return !a.good() }) && failed == "" {
		// It refused: does it still take its own?
		again, err := t.prover.tryOwn(ctx, t.to, false)
		if err != nil {
			return err
		}
		failed = again.failed
	}
	t.conclude(tries, failed)
	return nil
}

// failedControl says which side does not take its own state; empty for none.
func (t *trial) failedControl() string {
	switch c := t.recording.notes.Control; {
	case c == nil:
		return "the source was not tried with its own state"
	case !c.good():
		return "the source does not take its own state: " + c.String()
	}
	return t.target.failed
}

// control is what came of trying a side with its own state.
type control struct {
	failed    string // why it proves nothing; empty: it took its own state
	truncated bool   // it takes its own state cut short, too
	cutAt     int64  // the bytes that it took then
}

// control tries a side with its own state: once it took that, for all proofs of a
// Prover.
func (p *Prover) control(ctx context.Context, s *Side) (*control, error) {
	if c, ok := p.controls[*s]; ok {
		return c, nil
	}
	c, err := p.tryOwn(ctx, s, true)
	if err != nil {
		return nil, err
	}
	if c.failed != "" {
		return c, nil // it may have been a fault that is over by the next proof
	}
	if p.controls == nil {
		p.controls = make(map[Side]*control)
	}
	p.controls[*s] = c
	return c, nil
}

// tryOwn tries a side with its own state, and with parts of it.
func (p *Prover) tryOwn(ctx context.Context, s *Side, parts bool) (*control, error) {
	own, err := p.Record(ctx, s)
	switch {
	case ctx.Err() != nil && errors.Is(err, ErrLeft), NoCanary(err):
		return nil, err
	case ctx.Err() != nil:
		if err == nil {
			err = own.Close()
		}
		return nil, errors.Join(fmt.Errorf("prove: %w", context.Cause(ctx)), err)
	}
	if err != nil {
		return &control{failed: "the target cannot be recorded: " + err.Error()}, nil
	}
	defer own.Close()
	a, err := p.replay(ctx, s, own, whole)
	if err != nil {
		return nil, err
	}
	if !a.good() {
		return &control{failed: "the target does not take its own state: " + a.String()}, nil
	}
	c := new(control)
	if !parts {
		return c, nil
	}
	for _, cut := range cuts(own) {
		a, err := p.replay(ctx, s, own, cut)
		if err != nil {
			return nil, err
		}
		if a.Fault {
			return &control{failed: "the target could not be tried with a part of its own state: " + a.Problem}, nil
		}
		if a.Taken {
			c.truncated, c.cutAt = true, cut
			break
		}
	}
	return c, nil
}

// cuts are where a state is cut short: where pre-copy ended, in the middle,
// and before its last byte.
func cuts(r *Recording) []int64 {
	list := []int64{r.notes.Initial, r.size / 2, r.size - 1}
	list = slices.DeleteFunc(list, func(n int64) bool { return n <= 0 || n >= r.size })
	slices.Sort(list)
	return slices.Compact(list)
}

// conclude judges the tries.
func (t *trial) conclude(tries []Attempt, controls string) {
	p := t.proof
	p.Tries, p.Controls = len(tries), controls == ""
	first := tries[0]
	alike := !slices.ContainsFunc(tries, func(a Attempt) bool { return a != first })
	fault := slices.IndexFunc(tries, func(a Attempt) bool { return a.Fault })
	switch {
	case fault >= 0:
		p.Detail = tries[fault].String()
	// A transfer of a build to itself is its own control, but only where the driver
	// took the state and showed another: what refuses each time may be one host's
	// hardware, and a rejection is for all hosts of the build.
	case controls != "" && !(p.OfItself() && alike && first.Taken && !first.good()):
		p.Detail = controls + "; the transfer itself: " + first.String()
	case !alike:
		p.Detail = "tries ended differently: " + first.String() + "; " + tries[slices.IndexFunc(tries, func(a Attempt) bool { return a != first })].String()
	case !first.good():
		p.Result, p.Detail = compat.Rejected, first.String()
	case t.target.truncated && !first.Verified:
		p.Detail = fmt.Sprintf("taken, but so was the target's own state cut short to %d bytes: acceptance shows nothing there, and its catalog does not say how to observe what a guest sees", t.target.cutAt)
	case t.policy.Truncated == inventory.Yes && !first.Verified:
		p.Detail = "taken, but its catalog says that the driver takes what was cut short too: acceptance shows nothing there, and the catalog does not say how to observe what a guest sees"
	case (t.target.truncated || t.policy.Truncated == inventory.Yes) && !t.recording.notes.Worked:
		p.Detail = "taken, but the target also takes what was cut short, and what was compared is the same on a device that was not exercised: that it is equal shows nothing of the state"
	default:
		p.Result, p.Verified, p.Detail = compat.Accepted, first.Verified, first.String()
	}
}

// subjects are the words by which the kernel's log speaks of a proof's ends.
func subjects(s *Side, r *Recording) []string {
	list := []string{s.Type.Namespace, s.Parent}
	return append(list, r.header.Inventory.Parents[0].Modules...)
}
