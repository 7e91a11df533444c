// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package record

import (
	"context"
	"errors"
)

// ErrLocked is returned when a device is being changed by somebody else.
var ErrLocked = errors.New("it is being changed by another process")

var errLinux = errors.New("devices are changed on Linux only")

// Lock reports that devices are changed on Linux only.
func (s *Store) Lock(context.Context, string) (func(), error) { return nil, errLinux }

// TryLock reports that devices are changed on Linux only.
func (s *Store) TryLock(string) (func(), error) { return nil, errLinux }
