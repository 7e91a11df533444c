// SPDX-License-Identifier: Apache-2.0

package api

import "kindred/inventory"

// EventKind is what an event is about.
type EventKind string

const (
	HostEvent      EventKind = "host"
	DeviceEvent    EventKind = "device"
	ClaimEvent     EventKind = "claim"
	MigrationEvent EventKind = "migration"
	CanaryEvent    EventKind = "canary"
	DrainEvent     EventKind = "drain"
	// ResetEvent: what happened meanwhile is not kept any more. List anew, and go
	// on from that list's revision.
	ResetEvent EventKind = "reset"
)

// EventKinds are those that can be asked for.
var EventKinds = []EventKind{HostEvent, DeviceEvent, ClaimEvent, MigrationEvent, CanaryEvent, DrainEvent}

// Event is one change. Events of one revision happened at once; a stream goes
// on after the revision it was last at.
type Event struct {
	Revision  int64             `json:"revision"`
	Kind      EventKind         `json:"kind"`
	Name      string            `json:"name"`           // the host, the claim, the migration, the canary order, HOST/DEVICE
	Gone      bool              `json:"gone,omitempty"` // it is no more
	Host      *Host             `json:"host,omitempty"`
	Device    *inventory.Device `json:"device,omitempty"`
	Claim     *Claim            `json:"claim,omitempty"`
	Migration *Migration        `json:"migration,omitempty"`
	Canary    *Canary           `json:"canary,omitempty"`
	Drain     *Drain            `json:"drain,omitempty"`
}
