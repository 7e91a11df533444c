// SPDX-License-Identifier: Apache-2.0

// Package api is what the fleet server, its agents and its users say to each
// other: requests, answers and the codes of refusals, as plain Go types with
// the JSON that goes over the wire. docs/fleet.md explains their meaning and
// docs/openapi.json is the same for other languages.
//
// It promises:
//
//   - Keys keep their meaning within a version; new ones may be added, and
//     readers ignore what they do not know.
//   - A code is never reused for another meaning.
//   - Questions are answered with the types that package fleet answers with, so
//     that an answer from the server and one from files print the same.
//
// The package does no I/O.
package api

// Version is the first part of every path.
const Version = "v1"

// Paths of what is asked.
const (
	PathHosts       = "/v1/hosts"
	PathHost        = "/v1/hosts/{name}"
	PathReport      = "/v1/hosts/{name}/report"
	PathAlive       = "/v1/hosts/{name}/alive"
	PathAssignments = "/v1/hosts/{name}/assignments"
	PathCanaryWord  = "/v1/hosts/{name}/canary"
	PathStatus      = "/v1/hosts/{name}/status"
	PathLost        = "/v1/hosts/{name}/lost"
	PathStatic      = "/v1/static/{hash}"
	PathTargets     = "/v1/targets"
	PathJoint       = "/v1/joint"
	PathMatrix      = "/v1/matrix"
	PathReach       = "/v1/reach"
	PathChoices     = "/v1/choices"
	PathWhatIf      = "/v1/whatif"
	PathDrain       = "/v1/drain"
	PathRollout     = "/v1/rollout"
	PathDrains      = "/v1/drains"
	PathDrainOne    = "/v1/drains/{id}"
	PathPause       = "/v1/drains/{id}/pause"
	PathResume      = "/v1/drains/{id}/resume"
	PathCancel      = "/v1/drains/{id}/cancel"
	PathClaims      = "/v1/claims"
	PathClaim       = "/v1/claims/{id}"
	PathRenew       = "/v1/claims/{id}/renew"
	PathMigrations  = "/v1/migrations"
	PathMigration   = "/v1/migrations/{id}"
	PathHandOver    = "/v1/migrations/{id}/hand-over"
	PathComplete    = "/v1/migrations/{id}/complete"
	PathAbort       = "/v1/migrations/{id}/abort"
	PathCanaries    = "/v1/canaries"
	PathCanary      = "/v1/canaries/{id}"
	PathMissing     = "/v1/proofs/missing"
	PathProofs      = "/v1/proofs"
	PathEvents      = "/v1/events"
	PathJoin        = "/v1/join"
	PathRotate      = "/v1/rotate"
	PathTokens      = "/v1/tokens"
	PathAdmins      = "/v1/admins"
	PathRevoke      = "/v1/revocations"
	PathAuthority   = "/v1/authority"
	PathHealth      = "/v1/health"
	PathMetrics     = "/metrics"
	PathProfiles    = "/debug/pprof/{name}"
	PathOpenAPI     = "/openapi.json"
)

// Headers that mean something beyond HTTP.
const (
	// HeaderKey makes a POST that is sent again the same request as before.
	HeaderKey = "Idempotency-Key"
	// HeaderMatch refuses a write unless the thing still has that revision.
	HeaderMatch = "If-Match"
	// HeaderLast is where a stream of events goes on.
	HeaderLast = "Last-Event-ID"
)

// Gzip is the Content-Encoding that what is told of a host may come with.
const Gzip = "gzip"

// Names of certificates: what stands in front of the name says what its
// bearer may do. An agent touches its own host alone.
const (
	AgentPrefix = "host:"
	AdminPrefix = "admin:"
)

// Bounds of what is sent.
const (
	MaxBody    = 1 << 20 // of a request, but a static part
	MaxStatic  = 8 << 20 // of a static part, before it is compressed
	MaxLong    = 8 << 20 // of a question over the whole fleet: it may name owners and hosts
	MaxFrame   = 1 << 20 // of an answer that a client takes at once: each further piece waits for its turn
	MaxPage    = 1000    // things in one answer
	MaxDevices = 32      // of one claim
)
