// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"kindred/api"
	"kindred/bench/fleets"
	"kindred/bench/serving"
	"kindred/client"
	"kindred/inventory"
)

// joining is how many hosts connect at once.
const joining = 128

// garbage is how much of what the load's processes do not need any more may be in
// memory, in percent of what they need: memory is what there is more of here than of
// processors, and what they stand for are other machines.
const garbage = 800

// hosts are all agents of a fleet, in a process of their own. Each has its
// certificate and its connection, says that it is alive as often as the server
// wants to hear it, and, as one that may be managed does, listens to what it is
// to do.
type hosts struct {
	job  job
	made *fleets.Fleet
	all  []*agent

	changed, merged atomic.Int64 // reports that were taken; changes that came while one was sent
	alive           atomic.Int64
	failed          failures
	mu              sync.Mutex
	times           []time.Duration
}

// agent is what there is of one host.
type agent struct {
	i, n   int
	own    *inventory.Own
	client *client.Client
	news   chan struct{}
	chance *rand.Rand
}

// job is what the hosts' process is told.
type job struct {
	Dir     string // of the server
	Address string
	Seed    uint64
	Size    fleets.Size
	Rate    int    // changes a second
	Observe bool   // the agents listen to nothing
	Profile string // where to write what the changes cost; empty: nowhere
}

// word is what it says: once all are there, and at the end.
type word struct {
	Joined  time.Duration // how long that took
	Changed int64         // reports of changes that were taken
	Merged  int64
	Alive   int64
	Median  time.Duration // of a report
	Slow    time.Duration // its p99
	Failed  int64
	Reasons []string
}

// runHosts is the process: a job from in, a word when all have joined, changes
// from the next line of in on, a word about them at its end.
func runHosts(ctx context.Context, in io.Reader, out io.Writer) error {
	debug.SetGCPercent(garbage)
	lines, say := bufio.NewScanner(in), json.NewEncoder(out)
	h := new(hosts)
	if !lines.Scan() {
		return errors.New("no job")
	}
	if err := json.Unmarshal(lines.Bytes(), &h.job); err != nil {
		return fmt.Errorf("the job: %w", err)
	}
	begin := time.Now()
	// The hosts end with the process: twenty thousand goodbyes are not waited for.
	if err := h.join(ctx); err != nil {
		return err
	}
	if err := say.Encode(word{Joined: time.Since(begin)}); err != nil {
		return err
	}
	if !lines.Scan() {
		return nil
	}
	profiled, err := ownProfile(h.job.Profile, "hosts")
	if err != nil {
		return err
	}
	changing, stop := context.WithCancel(ctx)
	var changes sync.WaitGroup
	changes.Go(func() { h.change(changing) })
	lines.Scan() // the end, or another line
	stop()
	changes.Wait()
	if err := profiled(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	w := word{Changed: h.changed.Load(), Merged: h.merged.Load(), Alive: h.alive.Load(), Failed: h.failed.count()}
	w.Median, w.Slow = percentiles(h.times)
	w.Reasons = h.failed.reasons()
	return say.Encode(w)
}

// join makes every host report for the first time, and live from then on.
func (h *hosts) join(ctx context.Context) error {
	var err error
	if h.made, err = fleets.New(h.job.Seed, h.job.Size); err != nil {
		return err
	}
	authority, err := serving.Read(h.job.Dir)
	if err != nil {
		return err
	}
	var list sync.WaitGroup
	slots := make(chan struct{}, joining)
	var failed failures
	for i := range h.made.Size.Hosts {
		config, err := authority.Client(api.AgentPrefix + fleets.Name(i))
		if err != nil {
			return err
		}
		c, err := client.New([]string{h.job.Address}, config)
		if err != nil {
			return err
		}
		a := &agent{i: i, own: h.made.Host(i), client: c, news: make(chan struct{}, 1), chance: rand.New(rand.NewPCG(h.job.Seed+2, uint64(i)))}
		h.all = append(h.all, a)
		slots <- struct{}{}
		list.Go(func() {
			defer func() { <-slots }()
			err := h.first(ctx, a)
			for n := 1; err != nil && n < 5 && sleepUntil(ctx, time.Now().Add(time.Second)); n++ { // as agents do
				h.failed.add(err)
				err = h.first(ctx, a)
			}
			if err != nil {
				failed.add(err)
				return
			}
			go h.live(ctx, a)
			if !h.job.Observe {
				go h.listen(ctx, a)
			}
		})
	}
	list.Wait()
	if failed.count() > 0 {
		return fmt.Errorf("%d hosts did not join: %v", failed.count(), failed.reasons())
	}
	return nil
}

func (h *hosts) report(ctx context.Context, a *agent) (*api.ReportAnswer, error) {
	return a.client.Report(ctx, a.own.Host, &api.Report{Own: a.own, Version: strconv.Itoa(a.n), Agent: "bench", Mode: h.mode()})
}

func (h *hosts) mode() api.Mode {
	if h.job.Observe {
		return api.Observe
	}
	return api.Manage
}

// first is an agent's first report; the server may want the static part first.
func (h *hosts) first(ctx context.Context, a *agent) error {
	_, err := h.report(ctx, a)
	if !errors.Is(err, &api.Problem{Code: api.NeedStatic}) {
		return err
	}
	for n, digest := range h.made.Digests {
		if digest == a.own.Static {
			if err := a.client.PutStatic(ctx, digest, h.made.Statics[n]); err != nil {
				return err
			}
		}
	}
	_, err = h.report(ctx, a)
	return err
}

// live says that the host is alive, and reports when it changed.
func (h *hosts) live(ctx context.Context, a *agent) {
	interval := 10 * time.Second
	// Those who joined together do not stay together.
	next := time.NewTimer(time.Duration(a.chance.Int64N(int64(interval))))
	defer next.Stop()
	for {
		changed := false
		select {
		case <-ctx.Done():
			return
		case <-a.news:
			changed = true
		case <-next.C:
		}
		var answer *api.ReportAnswer
		var err error
		if changed {
			answer, err = h.news(ctx, a)
		} else {
			answer, err = a.client.Alive(ctx, a.own.Host, &api.Alive{Version: strconv.Itoa(a.n)})
			h.alive.Add(1)
		}
		if err != nil && ctx.Err() == nil {
			h.failed.add(err)
		}
		if answer != nil {
			interval = answer.Interval.Of()
		}
		next.Reset(interval)
	}
}

// news makes or removes a device and reports.
func (h *hosts) news(ctx context.Context, a *agent) (*api.ReportAnswer, error) {
	a.n++
	a.own, _ = h.made.Change(a.own, a.i, a.n, a.chance) // it is one that changes
	begin := time.Now()
	answer, err := h.report(ctx, a)
	if err == nil {
		took := time.Since(begin)
		h.changed.Add(1)
		h.mu.Lock()
		h.times = append(h.times, took)
		h.mu.Unlock()
	}
	return answer, err
}

// listen listens to what the host is to do, which is nothing.
func (h *hosts) listen(ctx context.Context, a *agent) {
	for ctx.Err() == nil {
		err := a.client.Assignments(ctx, a.own.Host, func(*api.Assignments) error { return nil })
		if ctx.Err() != nil {
			return
		}
		h.failed.add(err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second + time.Duration(a.i)*time.Millisecond):
		}
	}
}

// change changes hosts by chance, as often as it was told: one after the other, as
// machines that know nothing of each other.
func (h *hosts) change(ctx context.Context) {
	r := rand.New(rand.NewPCG(h.job.Seed+3, 0))
	var able []*agent // some hosts are full
	for _, a := range h.all {
		if _, ok := h.made.Change(a.own, a.i, 0, r); ok {
			able = append(able, a)
		}
	}
	begin, done := time.Now(), 0
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := int(time.Since(begin).Seconds() * float64(h.job.Rate)); done < due; done++ {
			select {
			case able[r.IntN(len(able))].news <- struct{}{}:
			default:
				h.merged.Add(1)
			}
		}
	}
}

// runHostsProcess is for main.
func runHostsProcess(ctx context.Context) error { return runHosts(ctx, os.Stdin, os.Stdout) }
