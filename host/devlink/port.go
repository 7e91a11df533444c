// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
)

// From enum devlink_command, enum devlink_attr, enum devlink_port_flavour and
// enum devlink_port_function_attr.
const (
	cmdPortGet       = 5
	cmdPortSet       = 6
	attrPortIndex    = 3
	attrFlavour      = 77
	attrVFNumber     = 128
	attrPortFunction = 145
	attrExternal     = 149
	flavourVF        = 4
	attrCaps         = 4      // struct nla_bitfield32: value, selector
	capMigratable    = 1 << 1 // DEVLINK_PORT_FN_CAP_MIGRATABLE
)

// ErrNoPort is returned for a virtual function without a devlink port: its
// driver has none, or the card is not in switchdev mode.
var ErrNoPort = errors.New("the virtual function has no devlink port; put the card into switchdev mode")

// ErrNoMigratable is returned for a port whose function cannot be told to be
// migratable, or not to be.
var ErrNoMigratable = errors.New("the driver knows no migratable state of its virtual functions")

// Migratable reads whether a virtual function of the device bus/name is set to
// be migratable (Documentation/networking/devlink/devlink-port.rst).
func (c *Conn) Migratable(ctx context.Context, bus, name string, vf int) (bool, error) {
	p, err := c.port(ctx, bus, name, vf)
	if err == nil && p.selector&capMigratable == 0 {
		err = ErrNoMigratable
	}
	if err != nil {
		return false, fmt.Errorf("devlink port of virtual function %d of %s/%s: %w", vf, bus, name, err)
	}
	return p.value&capMigratable != 0, nil
}

// SetMigratable sets it. No driver may have the function meanwhile.
func (c *Conn) SetMigratable(ctx context.Context, bus, name string, vf int, migratable bool) error {
	fail := func(err error) error {
		return fmt.Errorf("set the devlink port of virtual function %d of %s/%s migratable: %w", vf, bus, name, err)
	}
	p, err := c.port(ctx, bus, name, vf)
	if err != nil {
		return fail(err)
	}
	caps := make([]byte, 8)
	if migratable {
		binary.NativeEndian.PutUint32(caps, capMigratable)
	}
	binary.NativeEndian.PutUint32(caps[4:], capMigratable)
	_, err = c.ask(ctx, cmdPortSet, netlink.Request|netlink.Acknowledge, bus, name, func(enc *netlink.AttributeEncoder) {
		enc.Uint32(attrPortIndex, p.index)
		enc.Nested(attrPortFunction, func(function *netlink.AttributeEncoder) error {
			function.Bytes(attrCaps, caps)
			return nil
		})
	})
	if err != nil {
		return fail(err)
	}
	return nil
}

// port is one port of a device.
type port struct {
	bus, name string
	index     uint32
	vf        int // -1: it is of no virtual function of this host
	value     uint32
	selector  uint32 // of the capabilities that the driver knows
}

// port finds the one of a virtual function.
func (c *Conn) port(ctx context.Context, bus, name string, vf int) (port, error) {
	msgs, err := c.ask(ctx, cmdPortGet, netlink.Request|netlink.Dump, bus, name, func(*netlink.AttributeEncoder) {})
	if err != nil {
		return port{}, err
	}
	for _, m := range msgs {
		// Kernels before 6.5 ignore the device's name in a dump.
		p, err := parsePort(m.Data)
		if err != nil {
			return port{}, err
		}
		if p.bus == bus && p.name == name && p.vf == vf {
			return p, nil
		}
	}
	return port{}, ErrNoPort
}

func (c *Conn) ask(ctx context.Context, command uint8, flags netlink.HeaderFlags, bus, name string, attrs func(*netlink.AttributeEncoder)) ([]genetlink.Message, error) {
	enc := netlink.NewAttributeEncoder()
	enc.String(attrBusName, bus)
	enc.String(attrDevName, name)
	attrs(enc)
	data, err := enc.Encode()
	if err != nil {
		return nil, err
	}
	if err := c.limit(ctx); err != nil {
		return nil, err
	}
	return c.conn.Execute(genetlink.Message{Header: genetlink.Header{Command: command, Version: familyVersion}, Data: data}, c.family.ID, flags)
}

func parsePort(data []byte) (port, error) {
	p := port{vf: -1}
	dec, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return p, err
	}
	number, flavour, external := -1, uint16(0), false
	for dec.Next() {
		switch dec.Type() {
		case attrBusName:
			p.bus = dec.String()
		case attrDevName:
			p.name = dec.String()
		case attrPortIndex:
			p.index = dec.Uint32()
		case attrFlavour:
			flavour = dec.Uint16()
		case attrVFNumber:
			number = int(dec.Uint16())
		case attrExternal:
			external = dec.Uint8() != 0
		case attrPortFunction:
			dec.Nested(func(function *netlink.AttributeDecoder) error {
				for function.Next() {
					if caps := function.Bytes(); function.Type() == attrCaps && len(caps) == 8 {
						p.value, p.selector = binary.NativeEndian.Uint32(caps), binary.NativeEndian.Uint32(caps[4:])
					}
				}
				return nil
			})
		}
	}
	if flavour == flavourVF && !external {
		p.vf = number
	}
	return p, dec.Err()
}
