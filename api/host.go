// SPDX-License-Identifier: Apache-2.0

package api

import (
	"time"

	"kindred/inventory"
)

// Mode is what an agent may do on its host.
type Mode string

const (
	Observe Mode = "observe" // it reports and writes nothing
	Manage  Mode = "manage"  // it carries out assignments
)

// HostState says whether a host is heard of.
type HostState string

const (
	Reporting    HostState = "reporting"
	NotReporting HostState = "not-reporting" // its agent was not heard in time
)

// Host is one host, as it is listed.
type Host struct {
	Name    string           `json:"name"`
	State   HostState        `json:"state"`
	Since   time.Time        `json:"since"` // of the state
	Mode    Mode             `json:"mode"`
	Agent   string           `json:"agent,omitempty"` // its version
	Origin  inventory.Origin `json:"origin"`
	Kernel  inventory.Value  `json:"kernel,omitzero"`
	Taken   time.Time        `json:"taken"` // when what is stored was read
	Static  string           `json:"static"`
	Parents int              `json:"parents"`
	Types   int              `json:"types"`
	Devices int              `json:"devices"`
	Claims  int              `json:"claims"` // that hold room on it
	// Leftover are devices that the host's agent made for claims of which the server
	// knows nothing.
	Leftover []string `json:"leftover,omitempty"`
	Revision int64    `json:"revision"` // of what is stored
}

// HostDetail is a host with all that it reported.
type HostDetail struct {
	Host
	Inventory *inventory.Inventory `json:"inventory"`
}

// Hosts is one page of hosts, by name.
type Hosts struct {
	Hosts    []Host `json:"hosts"`
	Next     string `json:"next,omitempty"` // ask with after=NEXT for more
	Revision int64  `json:"revision"`       // events after it are news
}

// Report is what an agent tells of its host. It is sent whole whenever it
// differs from the one before; Alive is enough while it does not.
type Report struct {
	Own *inventory.Own `json:"own"` // with the digest of the static part
	// Version is the agent's word for this content. Any text: equal text means
	// equal content, also after the agent was started again.
	Version string `json:"version"`
	Agent   string `json:"agent"`
	Mode    Mode   `json:"mode"`
	// Leftover are devices that were made for claims of which the server knows
	// nothing: it was restored from before that.
	Leftover []string `json:"leftover,omitempty"`
}

// ReportAnswer is what an agent is told in turn.
type ReportAnswer struct {
	Revision int64 `json:"revision"`
	// Interval is after how long the agent is to be heard again, Timeout when it
	// is taken for silent.
	Interval Duration `json:"interval"`
	Timeout  Duration `json:"timeout"`
}

// Alive says that nothing changed. It is refused with NeedReport where the
// server has another version, or none.
type Alive struct {
	Version string `json:"version"`
}
