// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"

	rpc "github.com/digitalocean/go-libvirt"
)

// Changes tells of domains that begin, end or stop: something is sent whenever
// one did, and it is not said which. The channel is closed with the connection.
func (c *Conn) Changes(ctx context.Context) (<-chan struct{}, error) {
	events, err := call(ctx, c, "listen to events", func() (<-chan rpc.DomainEventLifecycleMsg, error) {
		return c.rpc.LifecycleEvents(context.WithoutCancel(ctx))
	})
	if err != nil {
		return nil, err
	}
	changed := make(chan struct{}, 1)
	go func() {
		defer close(changed)
		for e := range events {
			if rpc.DomainEventType(e.Event) == rpc.DomainEventResumed && rpc.DomainEventResumedDetailType(e.Detail) == rpc.DomainEventResumedMigrated {
				c.came.Store(formatUUID(e.Dom.UUID), true)
			}
			select {
			case changed <- struct{}{}:
			default: // it is to be looked at anyway
			}
		}
	}()
	return changed, nil
}
