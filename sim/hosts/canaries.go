// SPDX-License-Identifier: Apache-2.0

package hosts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"kindred/host/change"
	"kindred/host/mdev"
	"kindred/host/policy"
	"kindred/host/vfio"
	"kindred/inventory"
	"kindred/prove"
)

// Canaries makes throw-away devices on the host, where its policy allows them,
// to prove transfers by.
func (h *Host) Canaries() prove.Host { return &canaries{h} }

type canaries struct{ *Host }

func (c *canaries) Make(ctx context.Context, parent string, t inventory.TypeName) (string, error) {
	allowed, err := c.Policy()
	if err != nil {
		return "", err
	}
	if !allowed.Canary(parent, t) {
		return "", fmt.Errorf("%s does not allow canaries of %s on %s: /%s does, with canaries: [{parent: %q}]", c.Name, t.Full(), parent, policy.File, parent)
	}
	dev, err := c.Start(ctx, change.Request{Kind: inventory.Mdev, Parent: parent, Type: t.Full()})
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
