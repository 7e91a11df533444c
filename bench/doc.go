// SPDX-License-Identifier: Apache-2.0

// Package bench measures how fast Kindred reads a host.
//
// The command bench/cmd/kindred-bench compares whole processes of Kindred with
// mdevctl on synthetic trees, and Kindred's reading with a bare loop over the
// same files, in one run; that is what "make bench" shows. The benchmarks of
// this package are for profiles of the same reading:
//
//	go test -run - -bench . -cpuprofile cpu.prof ./bench
//
// Nothing here is asserted by time: a benchmark that fails on a busy machine
// is switched off before long.
package bench
