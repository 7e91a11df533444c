// SPDX-License-Identifier: Apache-2.0

// Package agent is one host's loop in a fleet: it reports what the host has,
// and, where that is allowed, makes and removes devices for claims and
// migrations.
//
// It promises:
//
//   - It observes unless it is told to manage: then it reports, and changes
//     nothing on the host.
//   - A managing agent keeps to the host's policy file, makes devices only for
//     assignments, and removes only what an assignment names: what it made for
//     that claim, or the source of a migration that is over. What it cannot tell
//     stays.
//   - Assignments are the state that is wanted, and are carried out in any order
//     and any number of times. What is about to be done is on disk before. An
//     agent that is killed at any moment goes on from there.
//   - A list of assignments, or one of them, that is older than one it has
//     carried out is refused, also after it was started again.
//   - A report is sent when something changed, and changes that come together go
//     together. While nothing changes a sign of life is enough.
//   - Canary orders are carried out where the policy allows canaries. Their
//     devices are on record before they exist and removed when the order ends,
//     however it ends; the state goes to, or comes from, one agent alone, that the
//     server announced.
//   - It outlives its servers: it tries again, less and less often, no two agents
//     in step.
//
// [Agent] has the loops, over a [Machine] or a [Managed] and a [Fleet]; package
// sim/hosts runs the same over machines that do not exist.
package agent
