// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"kindred/host/change"
	"kindred/inventory"
	"kindred/sim"
)

// startRequest is a device that somebody else makes on the host.
func startRequest(n int) change.Request {
	return change.Request{Kind: inventory.Mdev, ID: sim.UUID("other", n), Parent: "sim0", Type: v4.Full()}
}
