// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"kindred/api"
	"kindred/trust"
)

// Agent is one host's agent. Its fields are set before Run and left alone.
type Agent struct {
	Name    string // the host's: its inventory has to bear it
	Version string // of Kindred
	Machine Machine
	Fleet   Fleet
	// Journal is nil for an agent that observes. One that manages has it, and a
	// Machine that is Managed.
	Journal *Journal
	Log     *slog.Logger

	// Canaries is what it takes to prove transfers; nil: canary orders are refused.
	Canaries *Canaries

	Poll      time.Duration // how often the host is read without a reason; 0: 30 s
	Coalesce  time.Duration // how long changes are waited for that come together; 0: 200 ms
	Retry     time.Duration // the shortest wait after a failure; 0: 1 s
	RetryMost time.Duration // and the longest; 0: 30 s
	Request   time.Duration // how long the server may take to answer; 0: 30 s
	// Ready is called whenever the host could be read: for a service manager that
	// wants to know that the agent works.
	Ready func()

	changed chan struct{} // the host is not as it was reported
	stirred chan struct{} // the same, for who carries out assignments
	wanted  chan struct{} // there is a new list
	ordered chan struct{} // the same, for who carries out canary orders

	failures map[string]*failure // of assignments that are on the list

	mu   sync.Mutex
	list *api.Assignments // the newest
	said string           // what the server was told last of it; empty: say it again
}

// ErrCannotManage is returned for a machine that can only be read.
var ErrCannotManage = errors.New("this machine can be observed only")

// Run runs the agent until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	if err := trust.CheckName(a.Name); err != nil {
		return fmt.Errorf("run the agent: the host's name: %w", err)
	}
	a.defaults()
	managed, ok := a.Machine.(Managed)
	if a.Journal != nil && !ok {
		return fmt.Errorf("run the agent: %w", ErrCannotManage)
	}
	var wg sync.WaitGroup
	if a.Journal != nil {
		if err := managed.Repair(ctx); err != nil {
			a.Log.Warn("put right what was cut short", "err", err)
		}
		wg.Go(func() { a.watch(ctx) })
		wg.Go(func() { a.reconcile(ctx, managed) })
		wg.Go(func() { a.prove(ctx, managed) })
	}
	wg.Go(func() { a.listen(ctx) })
	wg.Go(func() { a.report(ctx) })
	wg.Wait()
	return nil
}

func (a *Agent) defaults() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&a.Poll, 30 * time.Second}, {&a.Coalesce, 200 * time.Millisecond}, {&a.Retry, time.Second}, {&a.RetryMost, 30 * time.Second}, {&a.Request, 30 * time.Second}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if a.Log == nil {
		a.Log = slog.New(slog.DiscardHandler)
	}
	a.failures = make(map[string]*failure)
	a.changed, a.stirred, a.wanted = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	a.ordered = make(chan struct{}, 1)
}

func (a *Agent) mode() api.Mode {
	if a.Journal == nil {
		return api.Observe
	}
	return api.Manage
}

// ask bounds what is asked of the server: a connection of which something between
// has lost sight never ends by itself.
func (a *Agent) ask(ctx context.Context, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, a.Request)
	defer cancel()
	return request(ctx)
}

func (a *Agent) ready() {
	if a.Ready != nil {
		a.Ready()
	}
}

// listen passes on what the machine says.
func (a *Agent) listen(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.Machine.Changed():
			kick(a.changed)
			kick(a.stirred)
		}
	}
}

// watch keeps the newest list of assignments.
func (a *Agent) watch(ctx context.Context) {
	retry := backoff{first: a.Retry, most: a.RetryMost}
	for {
		err := a.Fleet.Assignments(ctx, a.Name, func(list *api.Assignments) error {
			retry.reset()
			return a.take(list)
		})
		if ctx.Err() != nil {
			return
		}
		a.Log.Warn("watch assignments", "err", err)
		if !sleep(ctx, retry.wait()) {
			return
		}
	}
}

// take takes a list of assignments. It is an error of the server to send an
// older one: another server may know better.
func (a *Agent) take(list *api.Assignments) error {
	if list.Host != a.Name {
		return fmt.Errorf("assignments of the host %s, and this is %s", list.Host, a.Name)
	}
	if err := a.Journal.see(list.Revision); err != nil {
		return err
	}
	a.mu.Lock()
	a.list = list
	a.said = ""
	a.mu.Unlock()
	kick(a.wanted)
	kick(a.ordered)
	return nil
}
