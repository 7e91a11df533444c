// SPDX-License-Identifier: Apache-2.0

package callout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"time"
)

// notMine is the exit code of a callout for types that are not its own.
const notMine = 2

// maxOutput is how much of each output of a script is kept.
const maxOutput = 1 << 20

// lingering is how long output is waited for that somebody holds open whom the
// script left behind.
const lingering = time.Second

// result is how a script ended.
type result struct {
	stdout, stderr []byte
	code           int
	killed         bool // by a signal
	late           bool // ended: by the deadline, or because it printed too much
}

// limit is how long a script may run.
func limit(ctx context.Context, _ string, e event) (context.Context, context.CancelFunc) {
	most := Deadline
	if e == get {
		most = GetDeadline
	}
	return context.WithTimeoutCause(ctx, most, fmt.Errorf("it did not end in %v", most))
}

// start runs one script to its end. An error that is neither late nor killed
// says that it could not be run, or what it printed could not be taken.
func (s *Scripts) start(ctx context.Context, path string, e event, a Action, c *Call, input []byte) (result, error) {
	if s.silent(path, e, false) {
		return result{late: true}, errSilent
	}
	limited, cancel := s.limit(ctx, path, e)
	defer cancel()
	args := []string{"-t", c.dev.Type, "-e", string(e), "-a", string(a), "-s", string(c.state), "-u", c.dev.UUID, "-p", c.dev.Parent}
	var out result
	var err error
	if input == nil {
		out, err = spawn(limited, path, args)
	} else {
		out, err = execute(limited, path, args, input)
	}
	if limited.Err() != nil && ctx.Err() == nil {
		out.late = true
		s.silent(path, e, true)
		return out, fmt.Errorf("%w, and was ended", context.Cause(limited))
	}
	return out, err
}

// execute runs a script with input to its end.
func execute(ctx context.Context, path string, args []string, input []byte) (result, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	ownGroup(cmd)
	cmd.WaitDelay = lingering
	if input != nil {
		cmd.Stdin = bytes.NewReader(input)
	}
	var stdout, stderr bounded
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	out := result{stdout: stdout.kept, stderr: stderr.kept}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // the script itself ended well
	}
	if stdout.full || stderr.full { // it may be dead of that before it said no
		out.late = true
		return out, errTooMuch
	}
	if cmd.ProcessState != nil {
		out.code = cmd.ProcessState.ExitCode()
		out.killed = out.code < 0
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if out.killed {
			return out, exit
		}
		err = nil // a code is no error here
	}
	return out, err
}

// bounded keeps the first bytes and refuses what comes after.
type bounded struct {
	kept []byte
	full bool
}

var errSilent = errors.New("it did not end before, and is not asked again")

var errTooMuch = errors.New("it printed more than " + strconv.Itoa(maxOutput) + " bytes")

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.kept)+len(p) > maxOutput {
		b.full = true
		return 0, errTooMuch
	}
	b.kept = append(b.kept, p...)
	return len(p), nil
}
