// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"kindred/api"
	"kindred/bench/serving"
)

// moment is what was used until then.
type moment struct {
	at        time.Time
	server    serving.Usage
	hosts     serving.Usage
	own       serving.Usage
	busy      time.Duration
	db, wal   int64
	disk      int64 // written by all programs; 0: not known
	committed int64 // revision of the store
	handled   serving.Handled
}

func (r *run) moment(ctx context.Context) (m moment, err error) {
	m.at = time.Now()
	for pid, to := range map[int]*serving.Usage{r.server.PID: &m.server, r.load.command.Process.Pid: &m.hosts, os.Getpid(): &m.own} {
		if *to, err = serving.Of(pid); err != nil {
			return m, err
		}
	}
	if m.busy, err = serving.Busy(); err != nil {
		return m, err
	}
	if m.db, m.wal, err = r.server.Stored(); err != nil {
		return m, err
	}
	m.disk, _ = r.server.Disk() // not every directory is on a disk
	c, err := r.server.Ask()
	if err != nil {
		return m, err
	}
	defer c.Close()
	h, err := c.Health(ctx)
	if err != nil {
		return m, err
	}
	m.committed = h.Revision
	m.handled, err = r.server.Handled(ctx, "POST "+api.PathTargets, "0.01")
	return m, err
}

// steady is what the server does all day, and more of it.
func (r *run) steady(ctx context.Context) error {
	if err := r.load.tell(); err != nil {
		return err
	}
	if err := serving.Lead(); err != nil {
		return err
	}
	warm, cancel := context.WithTimeout(ctx, r.warm)
	r.asker.pace(warm, r.asks, r.conns, r.seed)
	cancel()
	before, err := r.moment(ctx)
	if err != nil {
		return err
	}
	window, cancel := context.WithTimeout(ctx, r.duration)
	defer cancel()
	most := make(chan int64, 1)
	go func() { most <- r.watch(window) }()
	profiled := r.profiles(window)
	own, err := ownProfile(r.profile, "questions")
	if err != nil {
		return err
	}
	answers := r.asker.pace(window, r.asks, r.conns, r.seed+1)
	if err := own(); err != nil {
		return err
	}
	peak := <-most
	after, err := r.moment(ctx)
	if err != nil {
		return err
	}
	if err := r.asker.look(answers); err != nil {
		return err
	}
	mapped, err := r.server.Mapped()
	if err != nil {
		return err
	}
	heap, etcd, err := r.server.Heap(ctx)
	if err != nil {
		return err
	}
	if err := r.load.tell(); err != nil {
		return err
	}
	w, err := r.load.hear()
	if err != nil {
		return err
	}
	if err := <-profiled; err != nil {
		return err
	}
	r.tellAnswers(answers)
	r.row("of these questions, handled by the server within 10 ms, as it counts itself", fmt.Sprintf("%.2f %%",
		100*float64(after.handled.Within-before.handled.Within)/float64(max(after.handled.All-before.handled.All, 1))), "99 %")
	r.row("server's memory, resident, at most", mib(peak), "under 1 GiB")
	r.row("of it pages of etcd's file, at the end, which the system takes back when it needs them", mib(mapped), "")
	r.tellUse(&before, &after)
	r.row("alive on the server's heap at the end; of it etcd's", mib(heap)+"; "+mib(etcd), "")
	r.tellHosts(w)
	return ctx.Err()
}

// watch is the most memory that was resident at any second.
func (r *run) watch(ctx context.Context) (most int64) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if u, err := serving.Of(r.server.PID); err == nil {
			most = max(most, u.RSS)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return most
		}
	}
}

func (r *run) tellAnswers(a *asked) {
	median, slow := percentiles(a.times)
	r.row("targets, best 100 and counts, p50", median, "")
	r.row("targets, best 100 and counts, p99", slow, "under 10 ms")
	if n := int64(len(a.times)); n > 0 {
		r.row("of so many questions; bytes of an answer", fmt.Sprintf("%d; %d", n, a.bytes/n), "")
	}
	r.row("questions that waited for a connection", a.behind.Load(), "")
	r.row("errors", fmt.Sprint(a.failed.count(), " ", strings.Join(a.failed.reasons(), "; ")), "0")
}

func (r *run) tellUse(before, after *moment) {
	span := after.at.Sub(before.at)
	hourly := func(n int64) string { return fmt.Sprintf("%.1f GiB", float64(n)/span.Hours()/(1<<30)) }
	r.row("written in an hour: the disk, for all programs", hourly(after.disk-before.disk), "")
	r.row("written in an hour: pages that the server made dirty, of up to 2 MiB (/proc/PID/io)", hourly(after.server.Written-before.server.Written), "")
	r.row("growth of etcd's file in an hour", hourly(after.db-before.db), "")
	r.row("etcd's file; its log", mib(after.db)+"; "+mib(after.wal), "")
	r.row("store's revisions a second", fmt.Sprintf("%.0f", float64(after.committed-before.committed)/span.Seconds()), "")
	share := func(used time.Duration) string { return fmt.Sprintf("%.2f", used.Seconds()/span.Seconds()) }
	ours := after.server.CPU - before.server.CPU
	load := after.hosts.CPU - before.hosts.CPU + after.own.CPU - before.own.CPU
	r.row("cores: the server; the load; other programs", share(ours)+"; "+share(load)+"; "+share(max(after.busy-before.busy-ours-load, 0)), "")
}

func (r *run) tellHosts(w *word) {
	span := r.warm + r.duration
	r.row("changes of hosts taken, a second", fmt.Sprintf("%.0f", float64(w.Changed)/span.Seconds()), fmt.Sprint(r.rate))
	r.row("changes that came while the host reported the one before", w.Merged, "")
	r.row("report of a change, p50", w.Median, "")
	r.row("report of a change, p99", w.Slow, "")
	r.row("agents' errors", fmt.Sprint(w.Failed, " ", strings.Join(w.Reasons, "; ")), "0")
}

func mib(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

func (r *run) row(what string, result any, wanted string) {
	if d, ok := result.(time.Duration); ok {
		result = d.Round(time.Microsecond)
		if d > time.Second {
			result = d.Round(time.Millisecond)
		}
	}
	r.say("| %s | %v | %s |\n", what, result, wanted)
}
