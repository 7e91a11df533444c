// SPDX-License-Identifier: Apache-2.0

package api

import (
	"time"

	"kindred/compat"
	"kindred/inventory"
)

// CanaryState is how far a canary order is. docs/fleet.md has the machine.
type CanaryState string

const (
	CanaryOrdered   CanaryState = "ordered"   // room is held on both hosts; no agent has begun
	CanaryRunning   CanaryState = "running"   // at least one of the agents is at it
	CanarySettled   CanaryState = "settled"   // over: see the result
	CanaryFailed    CanaryState = "failed"    // over: nothing was tried to its end; see the code
	CanaryCancelled CanaryState = "cancelled" // over: on request
)

// CanaryStates are all of them.
var CanaryStates = []CanaryState{CanaryOrdered, CanaryRunning, CanarySettled, CanaryFailed, CanaryCancelled}

// Over reports whether nothing more is tried.
func (s CanaryState) Over() bool {
	return s == CanarySettled || s == CanaryFailed || s == CanaryCancelled
}

// CanaryRequest asks that a type's transfer from one host to another be proved
// by canaries.
type CanaryRequest struct {
	From   CanarySpot `json:"from"`
	To     CanarySpot `json:"to"`
	Type   string     `json:"type"`              // by its full name
	ToType string     `json:"to_type,omitempty"` // where a catalog declares it equivalent; empty: the same
	Tries  int        `json:"tries,omitempty" minimum:"0" maximum:"1000"`
	TTL    Duration   `json:"ttl,omitzero"` // how long it may take; empty: the server's default
}

// CanarySpot is where one end is to be. Without a parent it is the host's first
// that offers the type and has room.
type CanarySpot struct {
	Host   string `json:"host"`
	Parent string `json:"parent,omitempty"`
}

// Canary is an order to prove a transfer: two agents make throw-away devices,
// and the state of one goes straight from the one agent to the other.
type Canary struct {
	ID       string      `json:"id"`
	State    CanaryState `json:"state"`
	Step     int64       `json:"step"` // grows whenever the agents have to begin anew, or to end
	From     CanaryEnd   `json:"from"`
	To       CanaryEnd   `json:"to"`
	Tries    int         `json:"tries"`
	By       string      `json:"by"`
	Created  time.Time   `json:"created"`
	Changed  time.Time   `json:"changed"` // when it got into its state
	Deadline time.Time   `json:"deadline"`
	Begun    int         `json:"begun"` // how often the agents began, because one of them lost it
	// Result and Detail are what a settled one showed, and Proof the id of the
	// proof that was made of it; a result without a proof is about no build.
	Result compat.Result `json:"result,omitempty"`
	Grade  string        `json:"grade,omitempty"`
	Detail string        `json:"detail,omitempty"`
	Proof  string        `json:"proof,omitempty"`
	// Reason is why it failed, is being tried again, or settles nothing although it
	// was accepted.
	Code     Code   `json:"code,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Revision int64  `json:"revision"`
}

// CanaryEnd is one end of a canary order.
type CanaryEnd struct {
	Host   string             `json:"host"`
	Parent string             `json:"parent"`
	Type   inventory.TypeName `json:"type"`
	Build  string             `json:"build"` // Build.ID when it was ordered
	Phase  CanaryPhase        `json:"phase,omitempty"`
	// Clear is true when none of the order's canaries is left there, so that it
	// holds no room.
	Clear bool `json:"clear"`
}

// Canaries is one page of canary orders, by id.
type Canaries struct {
	Canaries []Canary `json:"canaries"`
	Next     string   `json:"next,omitempty"`
	Revision int64    `json:"revision"`
}

// CanaryRole is which end an agent has.
type CanaryRole string

const (
	CanarySource CanaryRole = "source" // records, and sends the state
	CanaryTarget CanaryRole = "target" // receives the state, and tries it
)

// CanaryOrder is what an agent has to do for one end. Like assignments, orders
// are the state that is wanted: all of them are sent at each change.
type CanaryOrder struct {
	Canary string             `json:"canary"`
	Step   int64              `json:"step"`
	Role   CanaryRole         `json:"role"`
	End    bool               `json:"end,omitempty"` // it is over: remove what is left, and say that nothing is
	Parent string             `json:"parent"`
	Type   inventory.TypeName `json:"type"`
	Tries  int                `json:"tries"`
	// Phase is what this agent said last of this step.
	Phase    CanaryPhase `json:"phase,omitempty"`
	Deadline time.Time   `json:"deadline"`
	// Peer is the other end: once it is there, the target listens for it, and the
	// source, once it knows the address, connects.
	Peer    *CanaryPeer `json:"peer,omitempty"`
	Address string      `json:"address,omitempty"` // of the target's listener
	Token   string      `json:"token"`             // for one connection of this step. It is a secret
}

// CanaryPeer is who is at the other end.
type CanaryPeer struct {
	Host   string             `json:"host"`
	Parent string             `json:"parent"`
	Type   inventory.TypeName `json:"type"`
	// Serial is of the one certificate that counts. The server has seen it in use,
	// and not revoked.
	Serial string `json:"serial"`
}

// CanaryPhase is how far one end is, in this order.
type CanaryPhase string

const (
	CanaryWorking   CanaryPhase = "working"   // it has begun; canaries may exist
	CanaryRecorded  CanaryPhase = "recorded"  // the source has a recording, and took it itself
	CanaryListening CanaryPhase = "listening" // the target waits for the stream
	CanarySent      CanaryPhase = "sent"      // the source is done
	CanaryReceived  CanaryPhase = "received"  // the target has the whole stream, and tries it
	CanaryDone      CanaryPhase = "done"      // the target is done
	// CanaryLost: what was begun is no more, or was cut: begin anew.
	CanaryLost CanaryPhase = "lost"
	// CanaryGaveUp: it cannot be done there; see the code.
	CanaryGaveUp CanaryPhase = "gave-up"
	// CanaryClear: nothing of the order is left on the host.
	CanaryClear CanaryPhase = "clear"
)

// CanaryWord is what an agent says of one end. What belongs to a later phase is
// empty before.
type CanaryWord struct {
	Canary string      `json:"canary"`
	Step   int64       `json:"step"`
	Role   CanaryRole  `json:"role"`
	Phase  CanaryPhase `json:"phase"`
	// Code and Detail say why, for lost and gave-up.
	Code    Code   `json:"code,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Address string `json:"address,omitempty"` // listening: where
	// Sent and done: which stream; the host as it was meanwhile, without all that
	// does not decide; the drivers' own words.
	Digest    string               `json:"digest,omitempty"`
	Inventory *inventory.Inventory `json:"inventory,omitempty"`
	Log       []string             `json:"log,omitempty"`
	Outcome   *CanaryOutcome       `json:"outcome,omitempty"` // done
}

// CanaryOutcome is what the target saw.
type CanaryOutcome struct {
	Result   compat.Result `json:"result"`
	Grade    compat.Grade  `json:"grade"`
	Controls bool          `json:"controls"`
	Tries    int           `json:"tries"`
	Verified bool          `json:"verified"`
	Detail   string        `json:"detail,omitempty"`
}
