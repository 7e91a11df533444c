// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"kindred/api"
	"kindred/inventory"
)

// content is an inventory in the two parts in which it is sent.
type content struct {
	static  *inventory.Inventory
	own     *inventory.Own
	left    []string // devices of claims that are not known any more
	version string   // equal for equal content
}

// split takes an inventory apart and names it by what it says, whenever it was
// read.
func split(inv *inventory.Inventory, leftover []string) (*content, error) {
	c := new(content)
	c.static, c.own = inventory.Split(inv)
	digest, err := c.static.Digest()
	if err != nil {
		return nil, err
	}
	c.own.Static = digest
	timeless := *c.own
	timeless.Taken = time.Time{}
	data, err := json.Marshal(timeless)
	if err != nil {
		return nil, fmt.Errorf("name the inventory by its content: %w", err)
	}
	c.left = leftover
	sum := sha256.Sum256(fmt.Append(data, leftover))
	c.version = hex.EncodeToString(sum[:16])
	return c, nil
}

// leftover are devices that were made here for claims that are not on the list of
// assignments: the server does not know of them any more.
func (a *Agent) leftover(inv *inventory.Inventory) (ids []string) {
	a.mu.Lock()
	list := a.list
	a.mu.Unlock()
	if a.Journal == nil || list == nil {
		return nil
	}
	for id, claim := range a.Journal.forClaims() {
		known := slices.ContainsFunc(list.Assignments, func(as api.Assignment) bool { return as.Claim == claim })
		if d := inv.Device(id); d != nil && d.Ours && !known {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// reporter sends what the host has.
type reporter struct {
	*Agent
	known    string // the version that the server has
	interval time.Duration
	heard    time.Time // when the server answered last
}

// report is the loop.
func (a *Agent) report(ctx context.Context) {
	r := &reporter{Agent: a, interval: a.Poll}
	retry := backoff{first: a.Retry, most: a.RetryMost}
	for {
		err := r.once(ctx)
		wait := r.pause()
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			a.Log.Warn("report", "err", err)
			wait = retry.wait()
		} else {
			retry.reset()
		}
		if !a.woken(ctx, wait) {
			return
		}
	}
}

// pause is until the machine is read again, or the server wants to hear.
func (r *reporter) pause() time.Duration { return min(r.Poll, r.interval) }

// woken waits for a word that something changed, then a moment more for what
// comes with it. It reports false when ctx ended.
func (a *Agent) woken(ctx context.Context, most time.Duration) bool {
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	case <-a.changed:
	}
	return sleep(ctx, a.Coalesce)
}

// once reads the host and says what is new, or that nothing is.
func (r *reporter) once(ctx context.Context) error {
	inv, err := r.Machine.Inventory(ctx)
	if err != nil {
		return fmt.Errorf("read this host: %w", err)
	}
	if inv.Host.Name != r.Name {
		return fmt.Errorf("this host calls itself %s, and its agent is of %s: join with a token for %s", inv.Host.Name, r.Name, inv.Host.Name)
	}
	r.ready()
	c, err := split(inv, r.leftover(inv))
	if err != nil {
		return err
	}
	var answer *api.ReportAnswer
	if c.version == r.known {
		if time.Since(r.heard) < r.interval/2 {
			return nil
		}
		err = r.ask(ctx, func(ctx context.Context) (err error) {
			answer, err = r.Fleet.Alive(ctx, r.Name, &api.Alive{Version: c.version})
			return err
		})
		if errors.Is(err, &api.Problem{Code: api.NeedReport}) {
			r.known = ""
		} else if err != nil {
			return err
		}
	}
	if c.version != r.known {
		if answer, err = r.send(ctx, c); err != nil {
			return err
		}
	}
	r.known, r.heard = c.version, time.Now()
	if answer != nil && answer.Interval > 0 {
		r.interval = answer.Interval.Of()
	}
	return nil
}

// send sends the whole report, and the static part if the server lacks it.
func (r *reporter) send(ctx context.Context, c *content) (answer *api.ReportAnswer, err error) {
	report := func(ctx context.Context) (err error) {
		answer, err = r.Fleet.Report(ctx, r.Name, &api.Report{Own: c.own, Version: c.version, Agent: r.Version, Mode: r.mode(), Leftover: c.left})
		return err
	}
	if err = r.ask(ctx, report); !errors.Is(err, &api.Problem{Code: api.NeedStatic}) {
		return answer, err
	}
	if err = r.ask(ctx, func(ctx context.Context) error { return r.Fleet.PutStatic(ctx, c.own.Static, c.static) }); err != nil {
		return nil, fmt.Errorf("send the static part: %w", err)
	}
	err = r.ask(ctx, report)
	return answer, err
}
