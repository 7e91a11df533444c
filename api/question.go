// SPDX-License-Identifier: Apache-2.0

package api

import (
	"kindred/fleet"
	"kindred/inventory"
)

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

// ReachRequest asks how far all devices reach. The answer is [fleet.Reach].
type ReachRequest struct {
	Each bool `json:"each,omitempty"` // also every device on its own
}

// WhatIfRequest asks whom a change would strand. The answer is [fleet.WhatIf].
type WhatIfRequest struct {
	Changes []fleet.Change         `json:"changes,omitempty" maxItems:"64"` // in their order
	Add     []*inventory.Inventory `json:"add,omitempty" maxItems:"1000"`   // hosts that are not there
	// Under are the catalogs of a site to judge under, instead of the server's.
	Under *SiteCatalogs `json:"under,omitempty"`
}

// SiteCatalogs are all catalogs of a site, beside those that are built in.
type SiteCatalogs struct {
	Catalogs []CatalogText `json:"catalogs" maxItems:"100"`
}

// CatalogText is a catalog as it is in its file.
type CatalogText struct {
	Name string `json:"name"` // of the file, for errors
	Text string `json:"text"`
}

// DrainRequest asks for a plan that moves every owner off some hosts. The answer
// is [fleet.Plan].
type DrainRequest struct {
	Hosts  []string      `json:"hosts" minItems:"1"` // names or globs
	Owners []fleet.Owner `json:"owners,omitempty"`   // empty: each device is its own owner
	Policy fleet.Policy  `json:"policy,omitempty"`   // empty: pack
	AtOnce int           `json:"at_once,omitempty" minimum:"0"`
	Proven bool          `json:"proven,omitempty"` // only where a real transfer proved the pair
}

// RolloutRequest asks for a plan that drains hosts in turns, each changed once it
// is empty. The answer is [fleet.Rollout].
type RolloutRequest struct {
	DrainRequest
	Wave    int            `json:"wave" minimum:"1"` // hosts at a time
	Changes []fleet.Change `json:"changes,omitempty" maxItems:"64"`
}

// Health is how a server is.
type Health struct {
	Version  string `json:"version"`
	Hosts    int    `json:"hosts"`
	Revision int64  `json:"revision"` // of what it knows
}
