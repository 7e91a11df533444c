// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"fmt"

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
		for range events {
			select {
			case changed <- struct{}{}:
			default: // it is to be looked at anyway
			}
		}
	}()
	return changed, nil
}

// Versions are those of a hypervisor's programs.
type Versions struct{ QEMU, Libvirt string }

// Versions asks which programs run here.
func (c *Conn) Versions(ctx context.Context) (v Versions, err error) {
	qemu, err := call(ctx, c, "version of QEMU", c.rpc.ConnectGetVersion)
	if err != nil {
		return v, err
	}
	lib, err := call(ctx, c, "version of libvirt", c.rpc.ConnectGetLibVersion)
	return Versions{number(qemu), number(lib)}, err
}

// number writes a version as people do: major * 1,000,000 + minor * 1,000 + release.
func number(v uint64) string { return fmt.Sprintf("%d.%d.%d", v/1_000_000, v/1_000%1_000, v%1_000) }
