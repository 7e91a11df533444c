// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kindred/bench/synth"
)

type summary struct{ median, min, max float64 }

func summarize(values []float64) summary {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return summary{(sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]}
}

// ratios is over to under, pair by pair.
func ratios(over, under []float64) summary {
	list := make([]float64, len(over))
	for i := range over {
		list[i] = over[i] / under[i]
	}
	return summarize(list)
}

func times(values []float64) string {
	s := summarize(values)
	return fmt.Sprintf("%.2f | %.2f | %.2f", s.median, s.min, s.max)
}

func printTable(header, rows []string) {
	fmt.Printf("| %s |\n|%s\n%s\n", strings.Join(header, " | "), strings.Repeat("---|", len(header)), strings.Join(rows, "\n"))
}

// machine says when, where and with what was measured.
func machine(ctx context.Context, p programs) (string, error) {
	version, err := exec.CommandContext(ctx, p.mdevctl, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask mdevctl for its version: %w", err)
	}
	return fmt.Sprintf("# Kindred and mdevctl\n\n%s; %s; %d cores; Linux %s; %s; against %s.\nTrees are parents×types of each×devices of all, in memory.\n",
		time.Now().UTC().Format("2006-01-02 15:04 MST"), synth.CPU(), runtime.NumCPU(), synth.FirstLine("/proc/sys/kernel/osrelease"),
		runtime.Version(), strings.TrimSpace(string(version))), nil
}

// busy is the processor time, in s, that this machine and that this program
// with its children have used so far.
func busy() (machine, own float64) {
	var user, nice, system float64
	_, _ = fmt.Sscanf(synth.FirstLine("/proc/stat"), "cpu %f %f %f", &user, &nice, &system)
	const ticks = 100 // USER_HZ, the same on every Linux machine but Alpha's
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			own += float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
		}
	}
	return (user + nice + system) / ticks, own
}
