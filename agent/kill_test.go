// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"kindred/agent"
	"kindred/api"
	"kindred/sim/hosts"
)

// runMortal runs an agent until it is killed or stopped.
func runMortal(t *testing.T, h *hosts.Host, fleet agent.Fleet, killAt int) (m *hosts.Mortal, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	m = &hosts.Mortal{Fleet: fleet, KillAt: killAt, Kill: cancel}
	a, err := h.Agent(m)
	if err != nil {
		t.Fatal(err)
	}
	h.Step = m.Step
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
		{[]api.Assignment{{Migration: "m30", Claim: "c30", Fence: 30, Step: 31, Do: api.Release, AtSource: true, Device: a.Device, Spec: api.ClaimDevice{Source: a.Device}}}, "gone", 0},
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
					if m.Dead() {
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
