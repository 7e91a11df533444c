// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"kindred/trust"
)

// Renew waits until credentials are to be renewed, and has that done, again
// and again if need be. keep puts the new ones where they outlive the process,
// before they are used. The error is ctx's end only.
func Renew(ctx context.Context, c *trust.Credentials, ask func(ctx context.Context, csr string) (*trust.Issued, error), keep func(*trust.Credentials) error, log *slog.Logger) (*trust.Credentials, error) {
	if !sleep(ctx, time.Until(c.RenewAt())) {
		return nil, context.Cause(ctx)
	}
	retry := backoff{first: time.Minute, most: time.Hour}
	for {
		next, err := renew(ctx, ask, keep)
		if err == nil {
			return next, nil
		}
		log.Warn("renew the certificate", "expires", c.Expires(), "err", err)
		if !sleep(ctx, retry.wait()) {
			return nil, context.Cause(ctx)
		}
	}
}

func renew(ctx context.Context, ask func(context.Context, string) (*trust.Issued, error), keep func(*trust.Credentials) error) (*trust.Credentials, error) {
	csr, next, err := trust.NewRequest()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	issued, err := ask(ctx, csr)
	if err != nil {
		return nil, err
	}
	if err := next.Take(issued); err != nil {
		return nil, err
	}
	if err := keep(next); err != nil {
		return nil, fmt.Errorf("keep the new certificate: %w", err)
	}
	return next, nil
}
