// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"kindred/api"
	"kindred/bench/fleets"
	"kindred/bench/serving"
	"kindred/fleet"
)

// asker asks for targets as an administrator with a certificate, by HTTP/1.1 on
// connections that are kept, as a scheduler's HTTP library does.
type asker struct {
	made    *fleets.Fleet
	address string
	http    *http.Client
}

func newAsker(s *serving.Server, made *fleets.Fleet, conns int) (*asker, error) {
	config, err := s.Authority.Client(api.AdminPrefix + "bench")
	if err != nil {
		return nil, err
	}
	t := &http.Transport{TLSClientConfig: config, Protocols: new(http.Protocols), MaxIdleConnsPerHost: conns, DisableCompression: true}
	t.Protocols.SetHTTP1(true)
	return &asker{made: made, address: s.TLS + api.PathTargets, http: &http.Client{Transport: t, Timeout: 30 * time.Second}}, nil
}

// asksFor is how many hosts an answer is to list.
const asksFor = 100

// device is one that was there from the beginning, by chance.
func (a *asker) device(r *rand.Rand) string {
	for {
		own := a.made.Host(r.IntN(a.made.Size.Hosts))
		if len(own.Devices) > 0 {
			return own.Host + "/" + own.Devices[r.IntN(len(own.Devices))].ID
		}
	}
}

// ask asks one question and reads the whole answer.
func (a *asker) ask(ctx context.Context, q *api.TargetsRequest, into *bytes.Buffer) error {
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	into.Reset()
	if _, err := io.Copy(into, resp.Body); err != nil {
		return fmt.Errorf("read an answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %.200s", resp.Status, into)
	}
	return nil
}

// check looks whether an answer is one: every host counted, so many listed.
func (a *asker) check(text []byte, limit int) (all int, err error) {
	var t fleet.Targets
	if err := json.Unmarshal(text, &t); err != nil {
		return 0, fmt.Errorf("an answer: %w", err)
	}
	for _, n := range t.Counts {
		all += n
	}
	if all == a.made.Size.Hosts-1 && len(t.Hosts) != min(limit, all) {
		return all, fmt.Errorf("an answer lists %d hosts, %d were asked for", len(t.Hosts), limit)
	}
	return all, nil
}

// whole waits for the first answer that counts every host.
func (a *asker) whole(ctx context.Context, device string) error {
	var answer bytes.Buffer
	for {
		if err := a.ask(ctx, &api.TargetsRequest{Device: device, Limit: asksFor}, &answer); err == nil {
			if all, err := a.check(answer.Bytes(), asksFor); err != nil || all == a.made.Size.Hosts-1 {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer that counts every host: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// asked is how questions went.
type asked struct {
	times  []time.Duration
	bytes  int64
	behind atomic.Int64 // questions that began late since all connections were busy
	failed failures
	kept   [][]byte // answers to look at when nothing is measured any more
	mu     sync.Mutex
}

// mostKept is how many answers are looked at: any of them, with equal chances.
const mostKept = 300

// pace asks at a rate, on so many connections, until ctx ends. A question's time
// begins when it is due: one that waits for a connection is not flattered.
func (a *asker) pace(ctx context.Context, rate, conns int, seed uint64) *asked {
	out := new(asked)
	due := make(chan time.Time, 10*rate)
	var all sync.WaitGroup
	for n := range conns {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(n)))
			var answer bytes.Buffer
			for at := range due {
				q := &api.TargetsRequest{Device: a.device(r), Policy: fleet.Policies[r.IntN(len(fleet.Policies))], Limit: asksFor}
				if time.Since(at) > time.Millisecond {
					out.behind.Add(1)
				}
				a.one(q, at, &answer, out, r)
			}
		})
	}
	begin := time.Now()
	for n := 0; ; n++ {
		at := begin.Add(time.Duration(n) * time.Second / time.Duration(rate))
		if !sleepUntil(ctx, at) {
			break
		}
		due <- at
	}
	close(due)
	all.Wait()
	return out
}

func (a *asker) one(q *api.TargetsRequest, at time.Time, answer *bytes.Buffer, out *asked, r *rand.Rand) {
	// Not bounded by the measurement's end: a question that was begun counts.
	err := a.ask(context.Background(), q, answer)
	took := time.Since(at)
	if err != nil {
		out.failed.add(err)
		return
	}
	out.mu.Lock()
	defer out.mu.Unlock()
	out.times = append(out.times, took)
	out.bytes += int64(answer.Len())
	if len(out.kept) < mostKept {
		out.kept = append(out.kept, bytes.Clone(answer.Bytes()))
	} else if n := r.IntN(len(out.times)); n < mostKept {
		out.kept[n] = bytes.Clone(answer.Bytes())
	}
}

// look looks at the answers that were kept.
func (a *asker) look(out *asked) error {
	for _, text := range out.kept {
		if all, err := a.check(text, asksFor); err != nil {
			return err
		} else if all != a.made.Size.Hosts-1 {
			return fmt.Errorf("an answer counts %d hosts of %d", all, a.made.Size.Hosts-1)
		}
	}
	return nil
}

func sleepUntil(ctx context.Context, at time.Time) bool {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
