// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"

	"kindred/api"
	"kindred/definition"
	"kindred/host/change"
	"kindred/host/policy"
	"kindred/inventory"
	"kindred/prove"
)

// Machine is a host as an agent that observes it has it.
type Machine interface {
	Inventory(ctx context.Context) (*inventory.Inventory, error)
	// Changed says that the inventory may have changed; a word is lost where
	// there is one not yet taken. nil: the machine is asked from time to time.
	Changed() <-chan struct{}
}

// Managed is a host whose devices may be changed.
type Managed interface {
	Machine
	// Policy is what the host's operator allows now.
	Policy() (*policy.Policy, error)
	// Start and Stop are those of change.Host, and Repair puts right what an
	// agent that was killed left.
	Start(ctx context.Context, req change.Request) (change.Device, error)
	Stop(ctx context.Context, id string) error
	// Define and Undefine are those of definition.Store.
	Define(ctx context.Context, d *definition.Definition) error
	Undefine(ctx context.Context, parent, id string) error
	Repair(ctx context.Context) error
}

// Proving is a host on which canaries can be made, to prove transfers by.
type Proving interface {
	Managed
	// Canaries opens the host for the canaries of one order, where its operator
	// allows any. They bear the order's name, and are on record before they exist.
	Canaries(order string) (CanaryHost, error)
	// SweepCanaries removes canaries that nobody looks after any more.
	SweepCanaries(ctx context.Context) error
}

// CanaryHost makes canaries for as long as it is open.
type CanaryHost interface {
	prove.Host
	Close() error
}

// Fleet is the server, as an agent has it. Refusals are *api.Problem.
type Fleet interface {
	Report(ctx context.Context, host string, r *api.Report) (*api.ReportAnswer, error)
	Alive(ctx context.Context, host string, a *api.Alive) (*api.ReportAnswer, error)
	PutStatic(ctx context.Context, hash string, static *inventory.Inventory) error
	// Assignments calls take with the whole list, at once and whenever it
	// changes, until it fails or take does.
	Assignments(ctx context.Context, host string, take func(*api.Assignments) error) error
	Status(ctx context.Context, host string, r *api.StatusReport) error
	// CanaryWord says what became of one end of a canary order. The refusal
	// api.WrongState says that the order is not what it was.
	CanaryWord(ctx context.Context, host string, w *api.CanaryWord) error
}
