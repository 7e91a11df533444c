// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package vfio

import (
	"errors"
	"fmt"
)

// Open needs Linux.
func Open(id string, _ OpenOptions) (Device, error) {
	return nil, fmt.Errorf("open VFIO device %s: VFIO is Linux only: %w", id, errors.ErrUnsupported)
}
