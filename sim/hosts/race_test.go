// SPDX-License-Identifier: Apache-2.0

//go:build race

package hosts_test

// everyStep: the race detector takes its time, and sees no more at every step.
const everyStep = 5
