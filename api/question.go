// SPDX-License-Identifier: Apache-2.0

package api

import "kindred/fleet"

// TargetsRequest asks where a device can go. The answer is [fleet.Targets].
type TargetsRequest struct {
	Device  string       `json:"device"` // id, beginning of one, or HOST/ID
	Policy  fleet.Policy `json:"policy,omitempty"`
	Limit   int          `json:"limit,omitempty"`   // how many hosts are listed; 0: all, negative: none
	Others  bool         `json:"others,omitempty"`  // also what was not chosen, with why
	Reasons bool         `json:"reasons,omitempty"` // also a summary over all hosts
}

// JointRequest asks where all devices of one owner can go together. The answer is
// [fleet.Joint].
type JointRequest struct {
	Devices []string     `json:"devices" minItems:"1" maxItems:"32"` // on one host
	Policy  fleet.Policy `json:"policy,omitempty"`
	Limit   int          `json:"limit,omitempty"`
	Reasons bool         `json:"reasons,omitempty"`
}

// Health is how a server is.
type Health struct {
	Version  string `json:"version"`
	Hosts    int    `json:"hosts"`
	Revision int64  `json:"revision"` // of what it knows
}
