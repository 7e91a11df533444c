// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serving

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"kindred/api"
	"kindred/bench/fleets"
)

// Report reports every host of a fleet once, as an administrator may. A server
// that is to go on believing it is started with a long --timeout.
func (s *Server) Report(ctx context.Context, made *fleets.Fleet) error {
	c, err := s.Ask()
	if err != nil {
		return err
	}
	defer c.Close()
	for i, static := range made.Statics {
		if err := c.PutStatic(ctx, made.Digests[i], static); err != nil {
			return fmt.Errorf("report the fleet: %w", err)
		}
	}
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(64)
	for i := range made.Size.Hosts {
		all.Go(func() error {
			own := made.Host(i)
			if _, err := c.Report(ctx, own.Host, &api.Report{Own: own, Version: "1", Agent: "bench", Mode: api.Observe}); err != nil {
				return fmt.Errorf("report %s: %w", own.Host, err)
			}
			return nil
		})
	}
	return all.Wait()
}
