// SPDX-License-Identifier: Apache-2.0

// Package devlink reads a device's firmware versions and parameter-set id from
// the kernel's devlink interface (generic netlink, DEVLINK_CMD_INFO_GET), and
// reads and sets whether its virtual functions are migratable
// (DEVLINK_CMD_PORT_SET).
//
// Versions come in three groups: fixed (the board: board.id, asic.rev), running
// (fw, fw.psid, …) and stored (flashed, used after the next reset). Only fixed
// and running ones say what the device is now; stored ones are left out.
// Sources: include/uapi/linux/devlink.h,
// Documentation/networking/devlink/devlink-info.rst.
package devlink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"kindred/inventory"
)

// From enum devlink_command and enum devlink_attr.
const (
	familyName      = "devlink"
	familyVersion   = 1
	cmdInfoGet      = 51
	attrBusName     = 1
	attrDevName     = 2
	attrFixed       = 100
	attrRunning     = 101
	attrVersionName = 103
	attrVersionText = 104
	timeout         = 5 * time.Second
)

// Conn asks the running kernel.
type Conn struct {
	conn   socket
	family genetlink.Family
}

// socket is a [genetlink.Conn].
type socket interface {
	SetDeadline(time.Time) error
	Execute(m genetlink.Message, family uint16, flags netlink.HeaderFlags) ([]genetlink.Message, error)
	Close() error
}

// ErrNone is returned by Dial for a kernel without devlink.
var ErrNone = errors.New("the kernel has no devlink")

// Dial connects to devlink.
func Dial() (*Conn, error) {
	conn, err := genetlink.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("open generic netlink: %w", err)
	}
	family, err := conn.GetFamily(familyName)
	if err != nil {
		conn.Close()
		if errors.Is(err, unix.ENOENT) {
			return nil, ErrNone
		}
		return nil, fmt.Errorf("find the devlink family: %w", err)
	}
	return &Conn{conn, family}, nil
}

// Close ends the connection.
func (c *Conn) Close() error { return c.conn.Close() }

// Info returns the versions of the device bus/name. A device without a devlink
// instance has a complete, empty set.
func (c *Conn) Info(ctx context.Context, bus, name string) (inventory.Attributes, error) {
	msgs, err := c.ask(ctx, cmdInfoGet, netlink.Request, bus, name, func(*netlink.AttributeEncoder) {})
	switch {
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.EOPNOTSUPP):
		return inventory.Attributes{Complete: true}, nil
	case err != nil:
		return inventory.Attributes{}, fmt.Errorf("devlink info of %s/%s: %w", bus, name, err)
	}
	attrs := inventory.Attributes{Complete: true}
	for _, m := range msgs {
		if err := parseInfo(m.Data, &attrs); err != nil {
			return inventory.Attributes{}, fmt.Errorf("devlink info of %s/%s: %w", bus, name, err)
		}
	}
	return attrs, nil
}

// limit makes the next exchange end with ctx, and in any case.
func (c *Conn) limit(ctx context.Context) error {
	deadline := time.Now().Add(timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	return c.conn.SetDeadline(deadline)
}

// parseInfo adds the fixed and running versions of one answer to attrs. A
// running version wins over a fixed one of the same name.
func parseInfo(data []byte, attrs *inventory.Attributes) error {
	dec, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return err
	}
	running := make(map[string]bool)
	for dec.Next() {
		kind := dec.Type()
		if kind != attrFixed && kind != attrRunning {
			continue
		}
		dec.Nested(func(version *netlink.AttributeDecoder) error {
			var name, text string
			for version.Next() {
				switch version.Type() {
				case attrVersionName:
					name = version.String()
				case attrVersionText:
					text = version.String()
				}
			}
			if name != "" && (kind == attrRunning || !running[name]) {
				attrs.Set(name, text)
				running[name] = running[name] || kind == attrRunning
			}
			return nil
		})
	}
	return dec.Err()
}
