// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package vfio

import (
	"errors"

	"kindred/inventory"
)

// Probe needs Linux.
func Probe(id, group string) (*inventory.Migration, error) {
	return nil, errors.New("VFIO is Linux only")
}
