// SPDX-License-Identifier: Apache-2.0

package api

import (
	"time"

	"kindred/fleet"
)

// DrainOrder asks for a drain to be carried out: every owner on some hosts is
// moved elsewhere. Kindred chooses, claims and prepares; the VM manager moves.
type DrainOrder struct {
	DrainRequest          // at_once: 0 stands for DrainAtOnce
	Wave         int      `json:"wave,omitempty" minimum:"0"` // hosts at a time, which are changed before the next are drained; 0: all
	TTL          Duration `json:"ttl,omitzero"`               // how long a move's room is held; empty: the server's default
}

// Bounds of drains.
const (
	DrainAtOnce   = 4      // moves at once, unless asked otherwise
	MaxDrained    = 20_000 // owners that a drain is given
	MaxStays      = 1000   // owners that stayed, as they are kept when a drain is over
	MaxDrainTries = 3      // moves of one owner that may fail
)

// DrainState is how far a drain is. docs/scale.md explains it.
type DrainState string

const (
	DrainRunning   DrainState = "running"   // moves are begun, as many at once as are allowed
	DrainPaused    DrainState = "paused"    // none is begun; those under way go on
	DrainEmptied   DrainState = "emptied"   // a wave's hosts are empty, and wait to be changed
	DrainDone      DrainState = "done"      // over: everything was moved, or is listed with why it was not
	DrainCancelled DrainState = "cancelled" // over: no more moves are begun
)

// Over reports whether no more moves are begun.
func (s DrainState) Over() bool { return s == DrainDone || s == DrainCancelled }

// Drain is hosts being emptied.
type Drain struct {
	ID     string       `json:"id"`
	State  DrainState   `json:"state"`
	Hosts  []string     `json:"hosts"` // in the order of waves
	By     string       `json:"by"`
	Policy fleet.Policy `json:"policy"`
	AtOnce int          `json:"at_once"`
	Proven bool         `json:"proven,omitempty"`
	TTL    Duration     `json:"ttl"`
	Wave   int          `json:"wave,omitempty"` // hosts in one
	Turn   int          `json:"turn"`           // the wave under way, from 1
	Owned  bool         `json:"owned"`          // owners were given; else each device was taken for one
	// Abort is true where it was cancelled with its moves: those that were not
	// handed over are aborted.
	Abort   bool      `json:"abort,omitempty"`
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"` // when it got into its state, or wave
	// Idle is since when nothing could be begun while nothing was under way.
	Idle time.Time `json:"idle,omitzero"`
	// Waiting and Staying were counted when the record was written: owners that
	// can be moved, and that cannot. Moving and Moved are counted now.
	Waiting int          `json:"waiting"`
	Staying int          `json:"staying"`
	Moving  int          `json:"moving"`
	Moved   int          `json:"moved"`
	Stays   []DrainOwner `json:"stays,omitempty"` // those that stayed, when it is over: the first of them
	// Revision is that of the record.
	Revision int64 `json:"revision"`
}

// DrainOwnerState is what becomes of one owner.
type DrainOwnerState string

const (
	OwnerWaiting DrainOwnerState = "waiting" // it can be moved, and is not yet
	OwnerMoving  DrainOwnerState = "moving"
	OwnerMoved   DrainOwnerState = "moved"
	OwnerStays   DrainOwnerState = "stays" // it cannot be moved as things are: see the reason
)

// DrainOwner is one owner of a drain.
type DrainOwner struct {
	Owner     string          `json:"owner"`
	Host      string          `json:"host"` // where it is, or was before it was moved
	Devices   []string        `json:"devices"`
	State     DrainOwnerState `json:"state"`
	Target    string          `json:"target,omitempty"`
	Migration string          `json:"migration,omitempty"` // the last one
	Step      MigrationState  `json:"step,omitempty"`      // of the migration
	Tries     int             `json:"tries,omitempty"`     // moves that failed
	Code      string          `json:"code,omitempty"`      // of package fleet or of this one
	Reason    string          `json:"reason,omitempty"`
}

// DrainDetail is a drain, where it was asked for with all of its owners.
type DrainDetail struct {
	Drain
	Owners []DrainOwner `json:"owners,omitempty"` // by host and name
}

// Drains is one page of drains, by id.
type Drains struct {
	Drains   []Drain `json:"drains"`
	Next     string  `json:"next,omitempty"`
	Revision int64   `json:"revision"`
}

// DrainCancel ends a drain.
type DrainCancel struct {
	// Abort ends its moves too, but for those that were handed over: their VM may
	// be anywhere.
	Abort bool `json:"abort,omitempty"`
}
