// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package uevent

import (
	"context"
	"errors"
)

var errLinux = errors.New("kernel events are told on Linux only")

// Conn receives messages.
type Conn struct{}

// Listen reports that kernel events are told on Linux only.
func Listen() (*Conn, error) { return nil, errLinux }

// Close ends it.
func (c *Conn) Close() error { return nil }

// Next waits for the next message.
func (c *Conn) Next(context.Context) (Event, error) { return Event{}, errLinux }
