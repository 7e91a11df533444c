// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"time"

	"kindred/compat"
	"kindred/fleet"
	"kindred/inventory"
)

// ClaimRequest asks for room on a target for all devices of one owner at once.
type ClaimRequest struct {
	Devices []string     `json:"devices,omitempty" maxItems:"32"` // id, beginning of one, or HOST/ID; all on one host
	Target  string       `json:"target,omitempty"`                // a host; empty: the first by the policy that takes all
	Policy  fleet.Policy `json:"policy,omitempty"`
	Owner   string       `json:"owner,omitempty"`  // whose devices they are: a VM's name or UUID
	TTL     Duration     `json:"ttl,omitzero"`     // how long the room is held; empty: the server's default
	Proven  bool         `json:"proven,omitempty"` // only where a real transfer proved the pair
	Accept  []Acceptance `json:"accept,omitempty"` // unknowns that are accepted for this claim
}

// Acceptance is an unknown that somebody takes upon himself.
type Acceptance struct {
	Code   string    `json:"code"` // of a finding that is unknown: build.unproven
	Reason string    `json:"reason"`
	Until  time.Time `json:"until,omitzero"` // when it ends to count, and the claim with it; empty: with the claim
	By     string    `json:"by,omitempty"`   // who; the server fills it in
}

// ClaimState is what became of a claim.
type ClaimState string

const (
	Held  ClaimState = "held"  // room is kept; nothing was made for it
	Bound ClaimState = "bound" // a migration makes its devices: it ends with the migration
	Ended ClaimState = "ended" // it keeps no room
)

// ClaimEnd is why a claim keeps no room any more.
type ClaimEnd string

const (
	EndReleased  ClaimEnd = "released"  // given back
	EndLapsed    ClaimEnd = "lapsed"    // its deadline passed
	EndCompleted ClaimEnd = "completed" // its devices are there, and the target's own
	EndAborted   ClaimEnd = "aborted"   // its migration was, and left nothing there
)

// Claim is room held on a target.
type Claim struct {
	ID        string        `json:"id"`
	State     ClaimState    `json:"state"`
	End       ClaimEnd      `json:"end,omitempty"`
	Owner     string        `json:"owner,omitempty"`
	By        string        `json:"by"`     // who asked
	Source    string        `json:"source"` // the host that the devices are on
	Target    string        `json:"target"`
	Devices   []ClaimDevice `json:"devices"`
	Created   time.Time     `json:"created"`
	Deadline  time.Time     `json:"deadline"`
	Migration string        `json:"migration,omitempty"` // that it is bound to
	Accepted  []Acceptance  `json:"accepted,omitempty"`
	// Estimate is true where no model says how the target's types share a parent.
	Estimate bool `json:"estimate,omitempty"`
	// Fence grows with every claim: of two on one host or device, the one with the larger number is
	// newer, whatever clocks say.
	Fence    int64 `json:"fence"`
	Revision int64 `json:"revision"`
}

// ClaimDevice is what one device gets on the target.
type ClaimDevice struct {
	Source   string               `json:"source"` // its id on the source
	Kind     inventory.DeviceKind `json:"kind"`
	Parent   string               `json:"parent"` // on the target
	Type     inventory.TypeName   `json:"type"`   // to be created there
	Device   string               `json:"device"` // the new UUID, or the VF's address; empty: the agent picks a VF
	Copy     []Attribute          `json:"copy,omitempty"`
	Contract *inventory.Contract  `json:"contract,omitempty"` // what it promised its guest: it goes with it
	// Definition is an mdev's definition in mdevctl's format.
	Definition json.RawMessage `json:"definition,omitempty"`
	// Verdict is on what the claim rests.
	Outcome compat.Outcome `json:"outcome"`
	Code    string         `json:"code,omitempty"` // of the finding that decided
	Text    string         `json:"text,omitempty"`
	// Proof says what this transfer is about, for the proof that it will be.
	Proof *compat.Proof `json:"proof,omitempty"`
}

// Attribute is one value to be set while a device is made.
type Attribute struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Claims is one page of claims, by id.
type Claims struct {
	Claims   []Claim `json:"claims"`
	Next     string  `json:"next,omitempty"`
	Revision int64   `json:"revision"`
}

// Renewal moves a claim's deadline.
type Renewal struct {
	TTL Duration `json:"ttl,omitzero"` // from now; empty: the server's default
}
