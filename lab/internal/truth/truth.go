// SPDX-License-Identifier: Apache-2.0

// Package truth is what the lab's driver really accepts: a table made by giving
// every stream of every build and type to every other, by system calls alone.
package truth

import "slices"

// Plan says what to try; it is handed to the probe as JSON.
type Plan struct {
	Modules string  `json:"modules"` // the directory of the modules
	Builds  []Build `json:"builds"`
}

// Build is one build of the driver, with the parameters that shape its stream.
type Build struct {
	Name      string   `json:"name"`
	Module    string   `json:"module"`
	Params    string   `json:"params,omitempty"`
	Namespace string   `json:"namespace"`
	Dialect   string   `json:"dialect"`
	Types     []string `json:"types"`
}

// Table is the truth.
type Table struct {
	Streams []Stream `json:"streams"`
	Pairs   []Pair   `json:"pairs"`
	Cut     []Cut    `json:"cut"`
}

// Stream is what a source wrote.
type Stream struct {
	Build   string `json:"build"`
	Type    string `json:"type"`
	ID      string `json:"id"` // the type's full name
	Dialect string `json:"dialect"`
	Size    int    `json:"size"`
	Said    uint64 `json:"said"`           // what MIG_DATA_SIZE said before
	Initial uint64 `json:"initial"`        // bytes PRE_COPY called initial
	None    string `json:"none,omitempty"` // the errno, if it cannot migrate
}

// Name is build and type.
func (s Stream) Name() string { return Name(s.Build, s.Type) }

// Name names a build's type.
func Name(build, typ string) string { return build + "/" + typ }

// Outcomes.
const (
	Accepted = "accepted" // every write and RESUMING to STOP succeeded
	Refused  = "refused"
	NoStream = "no stream" // the source does not migrate
)

// Where a refusal came.
const (
	AtStart  = "start"  // RESUMING itself
	InHeader = "header" // a write inside what PRE_COPY calls initial
	InState  = "state"  // a write after that, or of a stream without
	AtStop   = "stop"   // RESUMING to STOP
)

// Equal and Different compare what a guest sees before and after.
const (
	Equal     = "equal"
	Different = "different"
)

// Pair is what came of a source's stream in a target.
type Pair struct {
	From    string `json:"from"`
	To      string `json:"to"`
	Outcome string `json:"outcome"`
	Where   string `json:"where,omitempty"`
	Byte    int    `json:"byte,omitempty"` // of the stream, the one whose write was refused
	Errno   string `json:"errno,omitempty"`
	// After a refused write, what a careless program would get: "taken" if all further
	// writes succeeded, else the first errno; and RESUMING to STOP: "ok" or the errno.
	Then string `json:"then,omitempty"`
	Stop string `json:"stop,omitempty"`
	// After acceptance: registers, queues and scratch, stopped and run on; and the
	// part of config space that a guest cannot write.
	State  string `json:"state,omitempty"`
	Config string `json:"config,omitempty"`
}

// CutTo is the part of a stream that a cut one has: one in so many.
const CutTo = 32

// Cut is what a build says to the beginning of its own stream.
type Cut struct {
	Of    string `json:"of"`
	Stop  string `json:"stop"` // ok, or the errno
	State string `json:"state,omitempty"`
}

// Compare orders pairs as the streams are ordered: by source, then target.
func Compare(streams []Stream, a, b Pair) int {
	at := func(name string) int {
		return slices.IndexFunc(streams, func(s Stream) bool { return s.Name() == name })
	}
	if d := at(a.From) - at(b.From); d != 0 {
		return d
	}
	return at(a.To) - at(b.To)
}
