// SPDX-License-Identifier: Apache-2.0

package hosts

import (
	"context"
	"errors"
	"slices"
	"strings"

	"kindred/agent"
	"kindred/host/change"
	"kindred/host/mdev"
	"kindred/host/vfio"
	"kindred/inventory"
	"kindred/prove"
)

// Canaries makes throw-away devices on the host, where its policy allows them,
// to prove transfers by: for an order.
func (h *Host) Canaries(order string) (agent.CanaryHost, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.proving[order]++
	return &canaries{h, order}, nil
}

// looked reports whether somebody looks after an order's canaries.
func (h *Host) looked(order string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.proving[order] > 0
}

// SweepCanaries removes what an agent that was killed left.
func (h *Host) SweepCanaries(ctx context.Context) error {
	inv, err := h.Inventory(ctx)
	if err != nil {
		return err
	}
	for i := range inv.Devices {
		if d := &inv.Devices[i]; d.Canary != "" && !h.looked(d.Canary) {
			err = errors.Join(err, (&canaries{h, d.Canary}).Remove(ctx, d.ID))
		}
	}
	return err
}

type canaries struct {
	*Host
	order string
}

// Close lets go of the host, which stays open. An agent that is killed lets go of
// it as well.
func (c *canaries) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proving[c.order]--
	return nil
}

func (c *canaries) Make(ctx context.Context, parent string, t inventory.TypeName) (string, error) {
	allowed, err := c.Policy()
	if err != nil {
		return "", err
	}
	if !allowed.Canary(parent, t) {
		return "", &prove.NotAllowedError{Parent: parent, Type: t}
	}
	dev, err := c.Start(ctx, change.Request{Kind: inventory.Mdev, Parent: parent, Type: t.Full(), Canary: c.order})
	return dev.ID, err
}

func (c *canaries) Open(_ context.Context, id string) (vfio.Device, error) { return c.Host.Open(id) }

func (c *canaries) Remove(ctx context.Context, id string) error {
	err := c.Stop(ctx, id)
	if e, ok := errors.AsType[*mdev.Error](err); ok && e.Reason == mdev.NoDevice {
		return nil
	}
	return err
}

func (c *canaries) Listen() func([]string) []string {
	before := len(c.machine.Log())
	return func(subjects []string) (lines []string) {
		for _, line := range c.machine.Log()[before:] {
			if slices.ContainsFunc(subjects, func(s string) bool { return strings.Contains(line, s) }) {
				lines = append(lines, line)
			}
		}
		return lines
	}
}
