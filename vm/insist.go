// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"time"

	"kindred/api"
)

// Insist asks until a server answers, for as long as is bearable. A refusal is an
// answer.
func Insist(ctx context.Context, ask func(context.Context) error) error {
	var last error // of a server that had its time to answer
	for begin := time.Now(); ; {
		once, cancel := context.WithTimeout(ctx, Patience)
		err := ask(once)
		cancel()
		if err == nil {
			return nil
		}
		p, refused := errors.AsType[*api.Problem](err)
		switch {
		case refused && p.Code != api.Unavailable:
			return err
		case ctx.Err() != nil && last == nil:
			return err // it was not given the time
		case ctx.Err() == nil:
			last = err
		}
		if ctx.Err() != nil || time.Since(begin) > Patience {
			return &silence{last}
		}
		select {
		case <-time.After(5 * pause):
		case <-ctx.Done():
			return &silence{last}
		}
	}
}

// silence is an error that is no answer of a server.
type silence struct{ err error }

func (s *silence) Error() string { return "no server answers: " + s.err.Error() }
func (s *silence) Unwrap() error { return s.err }

// Unreachable reports whether it was no server's answer that went wrong.
func Unreachable(err error) bool {
	_, ours := errors.AsType[*silence](err)
	return ours
}
