// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package prove

import (
	"context"
	"errors"
	"fmt"
	"io"

	"kindred/host/vfio"
	"kindred/inventory"
)

// Live makes canaries on this machine; it needs Linux.
type Live struct{ Host }

var errLinux = errors.New("devices are made on Linux only")

// OpenLive needs Linux.
func OpenLive([]string, string) (*Live, error) { return nil, errLinux }

// Close does nothing.
func (*Live) Close() error { return nil }

// Allows is false: nothing is made here.
func (*Live) Allows(string, inventory.TypeName) bool { return false }

// Sweep finds nothing.
func (*Live) Sweep(context.Context) ([]string, error) { return nil, nil }

// Open needs Linux.
func (*Live) Open(context.Context, string) (vfio.Device, error) { return nil, errLinux }

// GuardCommand is the hidden command of kindred that runs RunGuard.
const GuardCommand = "canary-guard"

// Guard needs Linux.
func Guard() (end func() error, err error) { return nil, errLinux }

// RunGuard needs Linux.
func RunGuard(context.Context, io.Reader) error { return fmt.Errorf("guard canaries: %w", errLinux) }
