// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"kindred/bench/private"
	"kindred/bench/reading"
	"kindred/bench/synth"
)

type programs struct {
	kindred, mdevctl string
	asMdevctl        string   // kindred by mdevctl's name
	newer            []string // the command of a newer mdevctl, or nil
}

// question is one that both programs answer.
type question struct {
	kindred, mdevctl []string
	rows             func(kindred, mdevctl []byte) (a, b []string)
	target           float64
}

var questions = []question{
	{[]string{"type", "list"}, []string{"types"}, typeRows, 4},
	{[]string{"device", "list"}, []string{"list"}, deviceRows, 5},
}

// readingTarget is how many times a bare loop's time reading may take.
const readingTarget = 1.5

func measure(ctx context.Context, dir string, p programs, pairs int) error {
	about, err := machine(ctx, p)
	if err != nil {
		return err
	}
	fmt.Print(about)
	start := time.Now()
	machineBefore, ownBefore := busy()
	var whole, within, spoken, called []string
	for i, spec := range synth.Standard {
		root := filepath.Join(dir, fmt.Sprint("tree", i))
		if err := spec.Write(root); err != nil {
			return err
		}
		a, b, c, err := onTree(ctx, root, spec, p, pairs)
		if err != nil {
			return fmt.Errorf("on %v: %w", spec, err)
		}
		whole, within, spoken = append(whole, a...), append(within, b...), append(spoken, c...)
		if len(p.newer) > 0 {
			rows, err := compareCallout(ctx, root, spec, p, pairs)
			if err != nil {
				return fmt.Errorf("on %v: %w", spec, err)
			}
			called = append(called, rows...)
		}
		if err := os.RemoveAll(root); err != nil {
			return fmt.Errorf("remove a tree: %w", err)
		}
	}
	fmt.Printf("\n## Whole processes\n\nTimes in ms over %d pairs of runs, taken in turn; output to /dev/null. The ratio is that of each pair.\n\n", pairs)
	printTable([]string{"tree", "program", "rows", "median", "min", "max", "ratio, median", "ratio, min-max", "wanted"}, whole)
	fmt.Printf("\n## mdevctl's command line\n\nThe same bytes from both, over %d pairs of runs.\n\n", pairs)
	header := []string{"tree", "command", "bytes", "median", "min", "max", "ratio, median", "ratio, min-max", "wanted"}
	printTable(header, spoken)
	if called != nil {
		fmt.Printf("\n## mdevctl's command line, with one callout\n\nOver %d pairs of runs, against %s.\n\n", min(pairs, calloutPairs), p.newer[len(p.newer)-1])
		printTable(header, called)
	}
	fmt.Printf("\n## Reading, in one process\n\nTimes in ms over %d pairs of runs, taken in turn. The bare loop opens, reads and closes the same files, reads the same links and lists the same directories, and does nothing else.\n\n", pairs)
	printTable([]string{"tree", "what", "cores", "Kindred, median", "bare loop, median", "ratio, median", "ratio, min-max", "wanted", "mdevctl's whole process takes"}, within)
	machineAfter, ownAfter := busy()
	others := (machineAfter - machineBefore) - (ownAfter - ownBefore)
	fmt.Printf("\nMeanwhile other programs used %.0f%% of one core; above a few percent, measure again.\n",
		max(others, 0)/time.Since(start).Seconds()*100)
	return nil
}

func onTree(ctx context.Context, root string, spec synth.Spec, p programs, pairs int) (whole, within, spoken []string, err error) {
	uncover, err := private.Cover(root)
	if err != nil {
		return nil, nil, nil, err
	}
	defer func() {
		if uncoverErr := uncover(); err == nil {
			err = uncoverErr
		}
	}()
	var peer []float64 // mdevctl's medians, by question
	for _, q := range questions {
		rows, theirs, err := compare(ctx, spec, p, q, pairs)
		if err != nil {
			return nil, nil, nil, err
		}
		whole, peer = append(whole, rows...), append(peer, theirs)
	}
	for i, what := range []reading.What{reading.Types, reading.Devices} {
		for _, cores := range []int{1, runtime.NumCPU()} {
			row, err := compareReading(ctx, spec, what, cores, pairs, peer[i])
			if err != nil {
				return nil, nil, nil, err
			}
			within = append(within, row)
		}
	}
	spoken, err = compareDialect(ctx, spec, p, pairs)
	return whole, within, spoken, err
}

// compare checks that both programs give the same answer, then times them.
func compare(ctx context.Context, spec synth.Spec, p programs, q question, pairs int) (rows []string, peer float64, err error) {
	a, err := output(ctx, p.kindred, q.kindred)
	if err != nil {
		return nil, 0, err
	}
	b, err := output(ctx, p.mdevctl, q.mdevctl)
	if err != nil {
		return nil, 0, err
	}
	want := spec.Parents * spec.Types
	if q.kindred[0] == "device" {
		want = spec.Devices
	}
	n, err := same(q.rows(a, b))
	if err != nil {
		return nil, 0, fmt.Errorf("kindred %v and mdevctl %v differ: %w", q.kindred, q.mdevctl, err)
	}
	if n != want {
		return nil, 0, fmt.Errorf("kindred %v and mdevctl %v show %d rows, the tree has %d", q.kindred, q.mdevctl, n, want)
	}
	ours, theirs, err := inTurn(ctx, pairs,
		func() error { return exec.CommandContext(ctx, p.kindred, q.kindred...).Run() },
		func() error { return exec.CommandContext(ctx, p.mdevctl, q.mdevctl...).Run() })
	if err != nil {
		return nil, 0, err
	}
	r := ratios(theirs, ours)
	return []string{
		fmt.Sprintf("| %v | kindred %s %s | %d | %s | %.2f | %.2f-%.2f | at least %g |", spec, q.kindred[0], q.kindred[1], n, times(ours), r.median, r.min, r.max, q.target),
		fmt.Sprintf("| %v | mdevctl %s | %d | %s | | | |", spec, q.mdevctl[0], n, times(theirs)),
	}, summarize(theirs).median, nil
}

func compareReading(ctx context.Context, spec synth.Spec, what reading.What, cores, pairs int, peer float64) (string, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
	bare, err := reading.Prepare("/", what)
	if err != nil {
		return "", err
	}
	ours, theirs, err := inTurn(ctx, pairs,
		func() error { _, err := reading.Kindred("/", what); return err },
		bare.Run)
	if err != nil {
		return "", err
	}
	r := ratios(ours, theirs)
	return fmt.Sprintf("| %v | %v | %d | %.2f | %.2f | %.2f | %.2f-%.2f | at most %g | %.1f times as long |",
		spec, what, cores, summarize(ours).median, summarize(theirs).median, r.median, r.min, r.max, readingTarget, peer/summarize(ours).median), nil
}

func output(ctx context.Context, program string, args []string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run %s %v: %w", program, args, err)
	}
	return out, nil
}

// inTurn times a and b one after the other, over and over, so that whatever
// else the machine does meets both. The first two pairs warm caches up.
func inTurn(ctx context.Context, pairs int, a, b func() error) (as, bs []float64, err error) {
	const warmUp = 2
	return inTurnFrom(ctx, warmUp, pairs, a, b)
}

func inTurnFrom(ctx context.Context, warmUp, pairs int, a, b func() error) (as, bs []float64, err error) {
	for i := range pairs + warmUp {
		if err := ctx.Err(); err != nil {
			return nil, nil, fmt.Errorf("interrupted: %w", err)
		}
		x, err := timed(a)
		if err != nil {
			return nil, nil, err
		}
		y, err := timed(b)
		if err != nil {
			return nil, nil, err
		}
		if i >= warmUp {
			as, bs = append(as, x), append(bs, y)
		}
	}
	return as, bs, nil
}

// timed is the time of one call in ms.
func timed(do func() error) (float64, error) {
	start := time.Now()
	err := do()
	return float64(time.Since(start)) / 1e6, err
}
