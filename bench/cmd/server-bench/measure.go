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
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"kindred/bench/fleets"
	"kindred/bench/page"
	"kindred/bench/serving"
	"kindred/bench/synth"
)

// run is one measurement.
type run struct {
	*options
	made   *fleets.Fleet
	server *serving.Server
	load   *load
	asker  *asker
	said   strings.Builder
}

func measure(ctx context.Context, o *options) (err error) {
	debug.SetGCPercent(garbage)
	r := &run{options: o}
	if r.made, err = fleets.New(o.seed, o.size); err != nil {
		return err
	}
	o.size = r.made.Size
	// Not in memory: what the server writes to disk is measured.
	dir, err := os.MkdirTemp("", "kindred-server-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := serving.Build(ctx, dir); err != nil {
		return err
	}
	authority, key, err := serving.Prepare(dir, r.made)
	if err != nil {
		return err
	}
	if r.server, err = serving.Start(ctx, dir, authority); err != nil {
		return err
	}
	defer func() {
		if r.server != nil {
			err = errors.Join(err, r.server.Stop())
		}
	}()
	if err := serving.Yield(r.server.PID, serverNice); err != nil {
		return err
	}
	if err := r.server.Learn(ctx, key, r.made); err != nil {
		return err
	}
	r.say("%s\n%d hosts × %d parents × %d types; %d changes and %d questions a second for %s.\n\n", synth.Machine(),
		o.size.Hosts, o.size.Parents, o.size.Types, o.rate, o.asks, o.duration)
	r.say("| what | result | wanted |\n|---|---|---|\n")
	if err := r.join(ctx); err != nil {
		return errors.Join(err, r.complaints())
	}
	defer func() { err = errors.Join(err, r.load.end()) }()
	if err := r.steady(ctx); err != nil {
		return errors.Join(err, r.complaints())
	}
	if err := r.again(ctx); err != nil || o.write == "" {
		return err
	}
	return page.Replace(o.write, "server-bench", r.said.String())
}

// say prints, and keeps for the page.
func (r *run) say(format string, values ...any) {
	fmt.Fprintf(io.MultiWriter(os.Stdout, &r.said), format, values...)
}

func (r *run) complaints() error {
	if text := r.server.Said(); text != "" {
		return errors.New("kindredd said: " + text)
	}
	return nil
}

// device is one to begin with.
func (r *run) device() string { return r.asker.device(rand.New(rand.NewPCG(r.seed, 99))) }

// join is an empty server that all hosts come to at once.
func (r *run) join(ctx context.Context) (err error) {
	if r.asker, err = newAsker(r.server, r.made, r.conns); err != nil {
		return err
	}
	begin := time.Now()
	r.load, err = startLoad(ctx, &job{Dir: r.server.Dir, Address: r.server.TLS, Seed: r.seed, Size: r.size, Rate: r.rate, Observe: r.observe, Profile: r.profile})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	var failed error
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		if _, failed = r.load.hear(); failed != nil {
			cancel()
		}
	}()
	err = r.asker.whole(ctx, r.device())
	if err == nil {
		r.row("an empty server, all hosts join at once: first answer that counts them all", time.Since(begin), "")
		<-joined
		return failed
	}
	err = errors.Join(err, r.load.end())
	<-joined
	return errors.Join(failed, err)
}

// again is the time of a server that is started with what it knew.
func (r *run) again(ctx context.Context) error {
	if err := r.load.end(); err != nil {
		return err
	}
	if err := r.server.Stop(); err != nil {
		return err
	}
	begin := time.Now()
	next, err := serving.Start(ctx, r.server.Dir, r.server.Authority)
	if err != nil {
		r.server = nil
		return err
	}
	r.server = next
	if r.asker, err = newAsker(next, r.made, 1); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := r.asker.whole(ctx, r.device()); err != nil {
		return err
	}
	r.row("started again: first answer that counts them all", time.Since(begin), "")
	return nil
}

// Ten thousand machines, and those who ask, have processors of their own. On this
// one the server goes before the hosts, and who asks, who needs little, before
// both: what he does with an answer is not the server's time, nor when he wakes up.
const (
	serverNice = 5
	hostsNice  = 19
)

// load is the hosts' process.
type load struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
	over    bool
}

func startLoad(ctx context.Context, j *job) (*load, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	l := &load{command: exec.CommandContext(ctx, self, hostsProcess)}
	l.command.Stderr = os.Stderr
	l.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if l.in, err = l.command.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := l.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	l.out = bufio.NewScanner(out)
	if err := l.command.Start(); err != nil {
		return nil, fmt.Errorf("start the hosts' process: %w", err)
	}
	if err := serving.Yield(l.command.Process.Pid, hostsNice); err != nil {
		return nil, errors.Join(err, l.end())
	}
	return l, json.NewEncoder(l.in).Encode(j)
}

// tell says the next word to it.
func (l *load) tell() error {
	_, err := fmt.Fprintln(l.in)
	return err
}

// hear waits for its next word.
func (l *load) hear() (*word, error) {
	if !l.out.Scan() {
		return nil, errors.Join(errors.New("the hosts' process ended too early"), l.end())
	}
	w := new(word)
	return w, json.Unmarshal(l.out.Bytes(), w)
}

// end ends it, once.
func (l *load) end() error {
	if l.over {
		return nil
	}
	l.over = true
	_ = l.in.Close() // one that ended has closed it
	kill := time.AfterFunc(20*time.Second, func() { _ = l.command.Process.Kill() })
	defer kill.Stop()
	return l.command.Wait()
}
