// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// lasting prints what comes, a line for each, until it is interrupted or nobody
// reads on: such a command has no answer that could be held back until it is
// whole.
func lasting[T any](cmd *cobra.Command, come func(ctx context.Context, each func(T) error) error, line func(T) (string, error)) error {
	out, _ := cmd.Context().Value(streamKey{}).(io.Writer)
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := come(ctx, func(what T) error {
		text, err := line(what)
		if err == nil {
			_, err = io.WriteString(out, text)
		}
		return err
	})
	switch {
	case errors.Is(err, context.Canceled):
		return &exitError{exitInterrupt, nil}
	case errors.Is(err, syscall.EPIPE): // who read it has seen enough
		return nil
	}
	return err
}
