// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"kindred/api"
	"kindred/compat"
	"kindred/prove"
	"kindred/trust"
)

// Canaries is what an agent needs to carry out canary orders.
type Canaries struct {
	Engine  *compat.Engine
	Scratch string // a directory for recordings; empty: the system's for temporary files
	// Credentials are the agent's, by which the other end knows it; nil: it has
	// none, and is no end.
	Credentials *trust.Credentials
	// Listen is the address on which it receives streams, for as long as one is
	// expected; empty: it receives none. Reach is how others call that address;
	// empty: as it is.
	Listen, Reach string
	// MaxBytes is the longest stream that is received; 0: 64 GiB.
	MaxBytes int64
}

// proving carries out canary orders: for each end one task, in a goroutine of
// its own. It is one agent's, and has nothing that has to outlive it: canaries
// are on the host's record, and how far an order is the server knows.
type proving struct {
	*Agent
	host Proving
	// One recording is made at a time, and one trial: they do not disturb each
	// other.
	recording, trying chan struct{}

	all   sync.WaitGroup
	tasks map[taskKey]*task // of the newest list
}

type taskKey struct {
	canary string
	role   api.CanaryRole
}

// task is what is done for one end in one step.
type task struct {
	*proving
	step   int64
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
	news   chan api.CanaryOrder
	order  api.CanaryOrder // the newest that the task has seen
}

// prove carries out canary orders until ctx ends.
func (a *Agent) prove(ctx context.Context, m Managed) {
	host, _ := m.(Proving)
	p := &proving{Agent: a, host: host, recording: make(chan struct{}, 1), trying: make(chan struct{}, 1), tasks: make(map[taskKey]*task)}
	defer p.all.Wait()
	if host != nil {
		p.sweep(ctx)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.ordered:
		}
		a.mu.Lock()
		list := a.list
		a.mu.Unlock()
		if list != nil {
			p.take(ctx, list.Canaries)
		}
	}
}

// sweep removes what an agent that was killed left. What cannot be removed now is
// tried again when its order ends.
func (p *proving) sweep(ctx context.Context) {
	if err := p.host.SweepCanaries(ctx); err != nil {
		p.Log.Warn("remove canaries that were left behind", "err", err)
	}
}

// take begins what is new on the list, tells tasks what is new for them, and ends
// those that are not wanted any more.
func (p *proving) take(ctx context.Context, orders []api.CanaryOrder) {
	wanted := make(map[taskKey]bool)
	for _, o := range orders {
		key := taskKey{o.Canary, o.Role}
		wanted[key] = true
		switch t := p.tasks[key]; {
		case t == nil:
			p.begin(ctx, key, o)
		case t.step != o.Step:
			t.cancel()
			select {
			case <-t.done:
				p.begin(ctx, key, o)
			default: // it kicks when it has ended
			}
		default:
			t.tell(o)
		}
	}
	for key, t := range p.tasks {
		if wanted[key] {
			continue
		}
		t.cancel()
		select {
		case <-t.done:
			delete(p.tasks, key)
		default:
		}
	}
}

// begin starts a task.
func (p *proving) begin(ctx context.Context, key taskKey, o api.CanaryOrder) {
	ctx, cancel := context.WithCancel(ctx)
	t := &task{proving: p, step: o.Step, cancel: cancel, done: make(chan struct{}), news: make(chan api.CanaryOrder, 1), order: o}
	p.tasks[key] = t
	p.all.Go(func() {
		defer kick(p.ordered)
		defer close(t.done)
		defer cancel()
		t.run(ctx)
	})
}

// tell gives a task what is new of its order.
func (t *task) tell(o api.CanaryOrder) {
	select {
	case <-t.news: // older news
	default:
	}
	t.news <- o
}

// grace is how much longer than the server an agent waits for an order's end:
// clocks differ.
const grace = time.Minute

// run does what the order says, whatever that was when it began.
func (t *task) run(ctx context.Context) {
	o := &t.order
	switch {
	case o.End:
		t.clear(ctx)
		return
	case o.Phase != "":
		// An earlier life of this agent said that.
		_ = t.say(ctx, &api.CanaryWord{Phase: api.CanaryLost, Detail: "the agent was started again"})
		return
	}
	ctx, cancel := context.WithDeadline(ctx, o.Deadline.Add(grace))
	defer cancel()
	err := t.work(ctx)
	if err == nil || ctx.Err() != nil || errors.Is(err, errSuperseded) {
		return
	}
	t.Log.Warn("canary order", "order", o.Canary, "role", o.Role, "err", err)
	word := &api.CanaryWord{Phase: api.CanaryLost, Detail: err.Error()}
	if g, ok := errors.AsType[*gaveUp](err); ok {
		word.Phase, word.Code = api.CanaryGaveUp, g.code
	}
	_ = t.say(ctx, word) // it ended with ctx, or the order is another by now
}

// gaveUp says why an end cannot be done here.
type gaveUp struct {
	code api.Code
	err  error
}

func (g *gaveUp) Error() string { return g.err.Error() }
func (g *gaveUp) Unwrap() error { return g.err }

func giveUp(code api.Code, format string, args ...any) error {
	return &gaveUp{code, fmt.Errorf(format, args...)}
}

// noProof is why package prove made none.
func noProof(err error) error {
	_, forbidden := errors.AsType[*prove.NotAllowedError](err)
	switch {
	case forbidden:
		return &gaveUp{api.CanaryForbidden, err}
	case errors.Is(err, prove.ErrNotOffered):
		return &gaveUp{api.NotOffered, err}
	case errors.Is(err, prove.ErrUnsafe):
		return &gaveUp{api.CanariesUnsafe, err}
	}
	return &gaveUp{api.DeviceFailed, err}
}

// work does one end from its beginning.
func (t *task) work(ctx context.Context) error {
	switch {
	case t.host == nil || t.Canaries == nil:
		return giveUp(api.CanaryForbidden, "its agent makes no canaries")
	case t.Canaries.Credentials == nil:
		return giveUp(api.Unauthorized, "its agent has no certificate, by which the other end could know it: it has to join (kindred agent join)")
	case t.order.Role == api.CanaryTarget && t.Canaries.Listen == "":
		return giveUp(api.NoListener, "its agent was started without --canary-listen")
	}
	allowed, err := t.host.Policy()
	if err != nil {
		return &gaveUp{api.CanaryForbidden, err}
	}
	if !allowed.Canary(t.order.Parent, t.order.Type) {
		return &gaveUp{api.CanaryForbidden, &prove.NotAllowedError{Parent: t.order.Parent, Type: t.order.Type}}
	}
	if t.order.Role == api.CanarySource {
		return t.give(ctx)
	}
	return t.try(ctx)
}

// prover makes one end of a proof.
func (t *task) prover() *prove.Prover {
	return &prove.Prover{Engine: t.Canaries.Engine, Version: t.Version, Now: time.Now, Scratch: t.Canaries.Scratch, Tries: t.order.Tries}
}

// turn waits for the one place, and returns how it is given back.
func turnAt(ctx context.Context, place chan struct{}) (done func(), err error) {
	select {
	case place <- struct{}{}:
		return func() { <-place }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// until waits for news of the order that are enough.
func (t *task) until(ctx context.Context, enough func(*api.CanaryOrder) bool) error {
	for !enough(&t.order) {
		select {
		case t.order = <-t.news:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// errSuperseded is returned when the server has another order by now.
var errSuperseded = errors.New("the order is another by now")

// say tells the server, again and again until it was heard.
func (t *task) say(ctx context.Context, w *api.CanaryWord) error {
	w.Canary, w.Step, w.Role = t.order.Canary, t.step, t.order.Role
	retry := backoff{first: t.Retry, most: t.RetryMost}
	for {
		err := t.Fleet.CanaryWord(ctx, t.Name, w)
		refused, isRefusal := errors.AsType[*api.Problem](err)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case isRefusal && refused.Code == api.WrongState:
			return errSuperseded
		case isRefusal && refused.Code == api.TooBig && w.Phase != api.CanaryGaveUp:
			return &gaveUp{api.TooBig, err}
		}
		t.Log.Warn("say what became of a canary order", "order", w.Canary, "phase", w.Phase, "err", err)
		if !sleep(ctx, retry.wait()) {
			return context.Cause(ctx)
		}
	}
}

// clear removes what is left of an order, and says so. While something cannot be
// removed it is tried again: the room is held until then.
func (t *task) clear(ctx context.Context) {
	retry := backoff{first: t.Retry, most: t.RetryMost}
	for t.host != nil {
		t.sweep(ctx)
		inv, err := t.host.Inventory(ctx)
		if err == nil {
			left := inv.DevicesUnread
			for i := range inv.Devices {
				left = left || inv.Devices[i].Canary == t.order.Canary
			}
			if !left {
				break
			}
			err = prove.ErrLeft
		}
		t.Log.Warn("a canary order is over", "order", t.order.Canary, "err", err)
		if !sleep(ctx, retry.wait()) {
			return
		}
	}
	_ = t.say(ctx, &api.CanaryWord{Phase: api.CanaryClear}) // it ended with ctx, or the order is no more
}
