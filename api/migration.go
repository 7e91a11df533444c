// SPDX-License-Identifier: Apache-2.0

package api

import (
	"time"
)

// MigrationState is how far a migration is. docs/fleet.md has the machine.
type MigrationState string

const (
	Planned    MigrationState = "planned"     // wanted; no room is held yet
	Claimed    MigrationState = "claimed"     // room is held; the target makes the devices
	Prepared   MigrationState = "prepared"    // the devices are there, and nobody was told of them
	HandedOver MigrationState = "handed-over" // the VM manager has them, and may move the state at any moment
	Completing MigrationState = "completing"  // the target is the owner; the source is cleared
	Completed  MigrationState = "completed"   // over: only the target has the devices
	Aborting   MigrationState = "aborting"    // the source stays the owner; the target is cleared
	Aborted    MigrationState = "aborted"     // over: only the source has the devices
)

// Over reports whether nothing more happens.
func (s MigrationState) Over() bool { return s == Completed || s == Aborted }

// MigrationRequest asks for a migration: of a claim that is held, or by a claim
// that the migration is to make itself.
type MigrationRequest struct {
	Claim string `json:"claim,omitempty"`
	ClaimRequest
}

// Migration is one owner's devices on their way from one host to another.
type Migration struct {
	ID    string         `json:"id"`
	State MigrationState `json:"state"`
	Step  int64          `json:"step"` // grows with each change of the state
	// Host is the devices' one owner at this moment: Source until the VM is
	// known to run on the target, Target from then on. It changes at most once.
	Host     string            `json:"host"`
	Source   string            `json:"source"`
	Target   string            `json:"target,omitempty"` // empty while planned, where the server chooses
	Owner    string            `json:"owner,omitempty"`
	By       string            `json:"by"`
	Claim    string            `json:"claim,omitempty"`
	Drain    string            `json:"drain,omitempty"` // that it is part of
	Devices  []MigrationDevice `json:"devices"`
	Created  time.Time         `json:"created"`
	Changed  time.Time         `json:"changed"` // when it got into its state
	Deadline time.Time         `json:"deadline"`
	// Reason is why it was, or is being, aborted, or what it waits for.
	Reason string `json:"reason,omitempty"`
	Code   Code   `json:"code,omitempty"`
	// Lost are hosts of which somebody said that they are gone for good.
	Lost []string `json:"lost,omitempty"`
	// Ahead is what a host has carried out of which the server knew nothing. Such a
	// migration waits for somebody to say how it ended.
	Ahead *Ahead `json:"ahead,omitempty"`
	// Request is what a planned one still has to claim.
	Request  *ClaimRequest `json:"request,omitempty"`
	Revision int64         `json:"revision"`
}

// MigrationDevice is one device on its way.
type MigrationDevice struct {
	Source string `json:"source"`           // its id on the source
	Target string `json:"target,omitempty"` // its id on the target
	// What the agents said last of either end.
	AtSource DeviceState `json:"at_source,omitempty"`
	AtTarget DeviceState `json:"at_target,omitempty"`
	Detail   string      `json:"detail,omitempty"`
}

// Migrations is one page of migrations, by id.
type Migrations struct {
	Migrations []Migration `json:"migrations"`
	Next       string      `json:"next,omitempty"`
	Revision   int64       `json:"revision"`
}

// Completion is what is known of a VM that runs on the target.
type Completion struct {
	// Rejected are devices of which a driver refused the state at its end. QEMU
	// resets such a device and lets the VM run: it is there, without its state.
	Rejected []Rejection `json:"rejected,omitempty" maxItems:"32"`
	// NoProof says that whether the drivers took the state was not looked at.
	NoProof bool `json:"no_proof,omitempty"`
}

// Rejection is one device's state that a driver refused.
type Rejection struct {
	Device string `json:"device"` // its id on the target
	Error  string `json:"error"`
}

// Abort ends a migration whose VM stayed on the source.
type Abort struct {
	Reason string `json:"reason,omitempty"`
	// Rejected says that a driver refused the state: the text of its error.
	Rejected string `json:"rejected,omitempty"`
}

// Action is what an agent is to do with one device.
type Action string

const (
	// Make: the device is to exist, for a claim. One that exists is left as it is.
	Make Action = "make"
	// Keep: the device is to exist, as the host's own from now on.
	Keep Action = "keep"
	// Hold: the device is there, and is to stay; say whether it is in use.
	Hold Action = "hold"
	// Release: the device is not to exist. One that a process has open stays,
	// and is tried again.
	Release Action = "release"
)

// Assignment is one device that an agent has to do with. Assignments are the
// state that is wanted, not commands: all of them are sent at each change.
type Assignment struct {
	Migration string `json:"migration"`
	Claim     string `json:"claim"`
	Fence     int64  `json:"fence"` // of the claim
	// Step is how often the migration changed its state. It is given back with
	// the status, so that a late word on an earlier state is not taken for one on
	// this. It only grows: an agent never follows a smaller one than it has seen.
	Step int64  `json:"step"`
	Do   Action `json:"do"`
	// AtSource is true for the source's host. Both ends may call a function alike.
	AtSource bool        `json:"at_source,omitempty"`
	Device   string      `json:"device"` // its id on this host; empty: the agent picks a VF of the parent
	Spec     ClaimDevice `json:"spec"`   // what it is; for Release on the source, Spec.Source is the device
}

// Assignments are all of one host. The agent ignores a list with a smaller
// revision than one it has seen.
type Assignments struct {
	Host        string        `json:"host"`
	Revision    int64         `json:"revision"`
	Assignments []Assignment  `json:"assignments"`        // by migration, then device
	Canaries    []CanaryOrder `json:"canaries,omitempty"` // by id, then role
}

// DeviceState is what an agent found, or did, for an assignment.
type DeviceState string

const (
	Made   DeviceState = "made"   // it is there, as assigned, and no process has it open
	Failed DeviceState = "failed" // it cannot be made: see the detail
	Busy   DeviceState = "busy"   // it is there, and a process has it open
	Kept   DeviceState = "kept"   // it is there, and the host's own
	Gone   DeviceState = "gone"   // it is not there
	Stuck  DeviceState = "stuck"  // it could not be removed, for another reason than Busy: see the detail
	Later  DeviceState = "later"  // refused: the agent has carried out something later, see Ahead
)

// Status is what an agent says of one assignment.
type Status struct {
	Migration string      `json:"migration"`
	Step      int64       `json:"step"`   // of the assignment
	Source    string      `json:"source"` // Spec.Source: which device of the migration
	Device    string      `json:"device"` // its id on this host
	State     DeviceState `json:"state"`
	Detail    string      `json:"detail,omitempty"`
	Ahead     *Ahead      `json:"ahead,omitempty"` // with Later: what
}

// Ahead is what a host has carried out for a device, later than the server knows
// of: that was restored from a backup.
type Ahead struct {
	Host  string `json:"host,omitempty"` // the server fills it in
	Claim string `json:"claim"`
	Fence int64  `json:"fence"`
	Step  int64  `json:"step"`
	Do    Action `json:"do"`
}

// StatusReport is what an agent says of all its assignments. It is sent at each
// change of one, and again at each connection.
type StatusReport struct {
	Statuses []Status `json:"statuses"`
}
