// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kindred/agent"
	"kindred/api"
	"kindred/inventory"
	"kindred/sim/hosts"
)

// mortal counts what an agent does to the world, each write to the machine and
// each word to the server, and ends it before or after the one that is chosen.
// What is dead does nothing more.
type mortal struct {
	agent.Fleet
	mu     sync.Mutex
	steps  int
	killAt int // 0: never
	dead   bool
	kill   context.CancelFunc
}

func (m *mortal) step() {
	m.mu.Lock()
	m.steps++
	if m.steps == m.killAt {
		m.dead = true
		m.kill()
	}
	dead := m.dead
	m.mu.Unlock()
	if dead {
		runtime.Goexit()
	}
}

func (m *mortal) Report(ctx context.Context, host string, r *api.Report) (*api.ReportAnswer, error) {
	m.step()
	defer m.step()
	return m.Fleet.Report(ctx, host, r)
}

func (m *mortal) Alive(ctx context.Context, host string, a *api.Alive) (*api.ReportAnswer, error) {
	m.step()
	return m.Fleet.Alive(ctx, host, a)
}

func (m *mortal) PutStatic(ctx context.Context, hash string, static *inventory.Inventory) error {
	m.step()
	return m.Fleet.PutStatic(ctx, hash, static)
}

func (m *mortal) Status(ctx context.Context, host string, r *api.StatusReport) error {
	m.step()
	defer m.step()
	return m.Fleet.Status(ctx, host, r)
}

// runMortal runs an agent until it is killed or stopped.
func runMortal(t *testing.T, h *hosts.Host, fleet agent.Fleet, killAt int) (m *mortal, stop func()) {
	t.Helper()
	journal, err := h.Journal()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m = &mortal{Fleet: fleet, killAt: killAt, kill: cancel}
	a := &agent.Agent{Name: h.Name, Version: "test", Machine: h, Fleet: m, Journal: journal}
	h.Step = m.step
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = a.Run(ctx)
	}()
	return m, func() { cancel(); <-done }
}

// TestKilled kills the agent at each step that it makes for a claim's life, and
// starts it again: all is carried out all the same, and nothing else.
func TestKilled(t *testing.T) {
	a, b := making(1, 10, 11), making(2, 10, 11)
	stages := []struct {
		list []api.Assignment
		said string
		left int
	}{
		{[]api.Assignment{a, b}, "made\nmade", 2},
		{[]api.Assignment{doing(a, api.Keep, 20), doing(b, api.Release, 20)}, "kept\ngone", 1},
		{[]api.Assignment{{Migration: "m30", Claim: "c30", Fence: 30, Step: 31, Do: api.Release, Device: a.Device, Spec: api.ClaimDevice{Source: a.Device}}}, "gone", 0},
	}
	killAt := 1
	for lived := false; !lived; killAt++ {
		synctest.Test(t, func(t *testing.T) {
			h, s := host(t, "gen9"), newServer("gen9")
			m, stop := runMortal(t, h, s, killAt)
			defer func() { stop() }()
			killed := false
			for i, stage := range stages {
				s.want(int64(11+10*i), stage.list...)
				for range 100 {
					later(time.Second)
					if m.dead {
						killed = true
						stop()
						if n := len(devices(t, h)); n > 2 {
							t.Fatalf("killed at step %d: %d devices", killAt, n)
						}
						m, stop = runMortal(t, h, s, 0)
					} else if s.said() == stage.said {
						break
					}
				}
				if s.said() != stage.said || len(devices(t, h)) != stage.left {
					t.Fatalf("killed at step %d: stage %d ended with %q and %d devices", killAt, i, s.said(), len(devices(t, h)))
				}
			}
			later(time.Minute)
			if last := s.reports[len(s.reports)-1]; len(last.Own.Devices) != 0 {
				t.Errorf("killed at step %d: the last report has %d devices", killAt, len(last.Own.Devices))
			}
			lived = !killed
		})
	}
	if killAt < 20 {
		t.Errorf("a claim's life has %d steps only", killAt)
	}
}
