// SPDX-License-Identifier: Apache-2.0

//go:build !race

package hosts_test

// everyStep is how many steps further the next kill is.
const everyStep = 1
