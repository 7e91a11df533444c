// SPDX-License-Identifier: Apache-2.0

package hosts

import (
	"context"
	"runtime"
	"sync"

	"kindred/agent"
	"kindred/api"
	"kindred/inventory"
)

// Mortal counts what an agent does to the world, each write to the machine and
// each word to the server, and ends it before or after the one that is chosen.
// What is dead does nothing more.
type Mortal struct {
	agent.Fleet
	KillAt int // which step; 0: none
	// Kill is called when it is time: it ends the context with which the agent
	// runs, which lets goroutines end that wait.
	Kill func()

	mu    sync.Mutex
	steps int
	dead  bool
}

// Dead reports whether it was killed.
func (m *Mortal) Dead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead
}

// Step is before each thing that the agent does: the host's Step has to be this
// one. It does not return to who is dead.
func (m *Mortal) Step() {
	m.mu.Lock()
	m.steps++
	if m.steps == m.KillAt {
		m.dead = true
		m.Kill()
	}
	dead := m.dead
	m.mu.Unlock()
	if dead {
		runtime.Goexit()
	}
}

func (m *Mortal) Report(ctx context.Context, host string, r *api.Report) (*api.ReportAnswer, error) {
	m.Step()
	defer m.Step()
	return m.Fleet.Report(ctx, host, r)
}

func (m *Mortal) Alive(ctx context.Context, host string, a *api.Alive) (*api.ReportAnswer, error) {
	m.Step()
	return m.Fleet.Alive(ctx, host, a)
}

func (m *Mortal) PutStatic(ctx context.Context, hash string, static *inventory.Inventory) error {
	m.Step()
	return m.Fleet.PutStatic(ctx, hash, static)
}

func (m *Mortal) CanaryWord(ctx context.Context, host string, w *api.CanaryWord) error {
	m.Step()
	defer m.Step()
	return m.Fleet.CanaryWord(ctx, host, w)
}

func (m *Mortal) Status(ctx context.Context, host string, r *api.StatusReport) error {
	m.Step()
	defer m.Step()
	return m.Fleet.Status(ctx, host, r)
}
