// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"kindred/bench/synth"
)

// call is a command of mdevctl that both programs answer with the same bytes.
type call struct {
	args   string
	target float64
}

// dialect is asked without callouts, of mdevctl 1.2.0.
var dialect = []call{{"list", 5}, {"list --dumpjson", 5}, {"types", 4}, {"types --dumpjson", 4}}

// withCallout is asked with one callout installed, of a newer mdevctl: 1.2.0
// asks each device once, newer ones ask first which version the callout has. A
// plain list prints nothing of what a callout says.
var withCallout = []call{{"list", 20}, {"list -v", 3}, {"list --dumpjson", 3}}

// callout says that every device has one attribute, and knows no versions.
const callout = `#!/bin/sh
case $4-$6 in get-attributes) echo '[{"profile":"1"}]';; esac
exit 0
`

// calloutPairs are few, and what both said before was warm-up enough: mdevctl
// takes up to twenty seconds for each.
const calloutPairs = 3

// compareDialect times ours, called as mdevctl, beside the installed one. The
// tree is in the place of /sys.
func compareDialect(ctx context.Context, spec synth.Spec, p programs, pairs int) (rows []string, err error) {
	for _, c := range dialect {
		row, err := compareCall(ctx, spec, c, []string{p.asMdevctl}, []string{p.mdevctl}, nil, 2, pairs)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row...)
	}
	return rows, nil
}

// compareCallout does the same below root, with one callout.
func compareCallout(ctx context.Context, root string, spec synth.Spec, p programs, pairs int) (rows []string, err error) {
	var errs []error
	for _, dir := range []string{"etc/mdevctl.d", "usr/lib/mdevctl/scripts.d/callouts", "usr/lib/mdevctl/scripts.d/notifiers"} {
		errs = append(errs, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	errs = append(errs, os.WriteFile(filepath.Join(root, "usr/lib/mdevctl/scripts.d/callouts/one"), []byte(callout), 0o755))
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("write a callout: %w", err)
	}
	for _, c := range withCallout {
		row, err := compareCall(ctx, spec, c, []string{p.asMdevctl}, p.newer, []string{"MDEVCTL_ENV_ROOT=" + root}, 0, min(pairs, calloutPairs))
		if err != nil {
			return nil, err
		}
		rows = append(rows, row...)
	}
	return rows, nil
}

// compareCall checks that both answer alike, then times them.
func compareCall(ctx context.Context, spec synth.Spec, c call, ours, theirs, env []string, warmUp, pairs int) ([]string, error) {
	command := func(program []string) *exec.Cmd {
		argv := slices.Concat(program, strings.Fields(c.args))
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), env...)
		return cmd
	}
	var said [2][]byte
	for i, program := range [][]string{ours, theirs} {
		out, err := command(program).Output()
		if err != nil {
			return nil, fmt.Errorf("run %v %s: %w", program, c.args, err)
		}
		said[i] = bytes.TrimRight(out, "\n") // 1.4.0 prints no empty line at the end
	}
	if !bytes.Equal(said[0], said[1]) || len(said[0]) == 0 {
		return nil, fmt.Errorf("ours and %v answer %s with %d and %d bytes that are not the same", theirs, c.args, len(said[0]), len(said[1]))
	}
	a, b, err := inTurnFrom(ctx, warmUp, pairs, func() error { return command(ours).Run() }, func() error { return command(theirs).Run() })
	if err != nil {
		return nil, err
	}
	r := ratios(b, a)
	return []string{
		fmt.Sprintf("| %v | ours: %s | %d | %s | %.2f | %.2f-%.2f | at least %g |", spec, c.args, len(said[0]), times(a), r.median, r.min, r.max, c.target),
		fmt.Sprintf("| %v | mdevctl %s | %d | %s | | | |", spec, c.args, len(said[1]), times(b)),
	}, nil
}
