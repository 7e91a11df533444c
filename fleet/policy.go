// SPDX-License-Identifier: Apache-2.0

package fleet

import "kindred/compat"

// Policy is in which order hosts that are ready are proposed, and which parent
// of a host. Where it does not decide, hosts go by name; of a host's parents
// the one with most room counts, then names.
type Policy string

const (
	ByName      Policy = "name"         // as they are called
	Pack        Policy = "pack"         // least room left first, so that whole parents stay free
	Spread      Policy = "spread"       // most room first
	ProvenFirst Policy = "proven-first" // a real transfer proved it, then the same build, then what a catalog says; then most room
	OldestFirst Policy = "oldest-first" // parents that offer the fewest types, since newer ones offer the old types beside their own; then most room
)

// Policies are all there are.
var Policies = []Policy{ByName, Pack, Spread, ProvenFirst, OldestFirst}

// rank is the place of a free offer under the policy, lower first.
func (f *Fleet) rank(policy Policy, c *deviceClass, o *layoutOffer, l *layout, packed int32) uint64 {
	return f.rankBase(policy, c, o.offer, l.parents[o.parent].count) + rankRoom(policy, uint64(min(max(packed, 0), roomMax)))
}

// rankBase is what all places of a slot have in common.
func (f *Fleet) rankBase(policy Policy, c *deviceClass, o *offer, types int) uint64 {
	switch policy {
	case ProvenFirst:
		return uint64(f.kinds.judged(c.source, o).evidence) << 32
	case OldestFirst:
		return uint64(types) << 32
	}
	return 0
}

// rankRoom is the part of the room; 0 is room that is not told, which comes
// last.
func rankRoom(policy Policy, room uint64) uint64 {
	switch {
	case policy == ByName:
		return 0
	case policy == Pack && room > 0:
		return room
	case policy == Pack:
		return roomMax + 1
	}
	return roomMax - room
}

// evidence says what a compatible verdict rests on, best first.
func evidence(v *compat.Verdict) int {
	worst := 0
	for i := range v.Findings {
		switch v.Findings[i].Code {
		case compat.ProofAccepted:
			return 0
		case compat.BuildEqual:
			worst = 1
		case compat.BuildEpoch, compat.BuildAccepted:
			worst = 2
		}
	}
	return worst
}
