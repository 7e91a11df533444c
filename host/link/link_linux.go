// SPDX-License-Identifier: Apache-2.0

// Package link reads and sets what the kernel keeps of a network card's virtual
// functions at the physical function's interface: the MAC address and the VLAN
// that a function has when a guest gets it (rtnetlink, IFLA_VFINFO_LIST).
//
// Sources: include/uapi/linux/if_link.h, rtnl_fill_vf() and do_setvfinfo() of
// net/core/rtnetlink.c.
package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	vfInfo    = 1 // IFLA_VF_INFO
	filterVF  = 1 // RTEXT_FILTER_VF
	headerLen = 16
	macLen    = 32 // of struct ifla_vf_mac, whatever the address
	timeout   = 5 * time.Second
)

// VF is what is set of one function.
type VF struct {
	MAC  net.HardwareAddr
	VLAN uint32 // 0: none
	QoS  uint32 // priority of the VLAN's frames
}

// ErrNone is returned for a function that the interface does not list.
var ErrNone = errors.New("the interface lists no such virtual function")

// Conn asks and changes the running kernel.
type Conn struct{ conn socket }

// socket is a [netlink.Conn].
type socket interface {
	SetDeadline(time.Time) error
	Execute(netlink.Message) ([]netlink.Message, error)
	Close() error
}

// Dial connects to rtnetlink.
func Dial() (*Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return &Conn{conn}, nil
}

// Close ends the connection.
func (c *Conn) Close() error { return c.conn.Close() }

// VF reads the function's settings at the interface.
func (c *Conn) VF(ctx context.Context, index int, vf uint32) (VF, error) {
	msgs, err := c.execute(ctx, unix.RTM_GETLINK, netlink.Request, index, func(enc *netlink.AttributeEncoder) {
		enc.Uint32(unix.IFLA_EXT_MASK, filterVF)
	})
	if err != nil {
		return VF{}, fmt.Errorf("read virtual function %d of interface %d: %w", vf, index, err)
	}
	for _, m := range msgs {
		found, err := parse(m.Data, vf)
		if !errors.Is(err, ErrNone) {
			return found, err
		}
	}
	return VF{}, fmt.Errorf("read virtual function %d of interface %d: %w", vf, index, ErrNone)
}

// SetMAC sets the function's MAC address.
func (c *Conn) SetMAC(ctx context.Context, index int, vf uint32, mac net.HardwareAddr) error {
	data := make([]byte, 4+macLen)
	binary.NativeEndian.PutUint32(data, vf)
	copy(data[4:], mac)
	return c.set(ctx, index, vf, unix.IFLA_VF_MAC, data)
}

// SetVLAN sets the function's VLAN and the priority in it.
func (c *Conn) SetVLAN(ctx context.Context, index int, vf, vlan, qos uint32) error {
	data := make([]byte, 12)
	for i, n := range []uint32{vf, vlan, qos} {
		binary.NativeEndian.PutUint32(data[4*i:], n)
	}
	return c.set(ctx, index, vf, unix.IFLA_VF_VLAN, data)
}

func (c *Conn) set(ctx context.Context, index int, vf uint32, attr uint16, data []byte) error {
	_, err := c.execute(ctx, unix.RTM_SETLINK, netlink.Request|netlink.Acknowledge, index, func(enc *netlink.AttributeEncoder) {
		enc.Nested(unix.IFLA_VFINFO_LIST, func(list *netlink.AttributeEncoder) error {
			list.Nested(vfInfo, func(info *netlink.AttributeEncoder) error {
				info.Bytes(attr, data)
				return nil
			})
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("set virtual function %d of interface %d: %w", vf, index, err)
	}
	return nil
}

// execute sends a message about one interface: struct ifinfomsg, attributes.
func (c *Conn) execute(ctx context.Context, command uint16, flags netlink.HeaderFlags, index int, attrs func(*netlink.AttributeEncoder)) ([]netlink.Message, error) {
	enc := netlink.NewAttributeEncoder()
	attrs(enc)
	data, err := enc.Encode()
	if err != nil {
		return nil, err
	}
	header := make([]byte, headerLen)
	binary.NativeEndian.PutUint32(header[4:], uint32(index))
	deadline := time.Now().Add(timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	return c.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(command), Flags: flags}, Data: append(header, data...),
	})
}

// parse finds one function in an RTM_NEWLINK message.
func parse(data []byte, vf uint32) (VF, error) {
	if len(data) < headerLen {
		return VF{}, errors.New("the kernel's answer is too short")
	}
	dec, err := netlink.NewAttributeDecoder(data[headerLen:])
	if err != nil {
		return VF{}, err
	}
	var found VF
	known := false
	for dec.Next() {
		if dec.Type() != unix.IFLA_VFINFO_LIST {
			continue
		}
		dec.Nested(func(list *netlink.AttributeDecoder) error {
			for list.Next() {
				if list.Type() == vfInfo {
					list.Nested(func(info *netlink.AttributeDecoder) error {
						is, err := parseInfo(info, vf, &found)
						known = known || is
						return err
					})
				}
			}
			return nil
		})
	}
	if err := dec.Err(); err != nil {
		return VF{}, err
	}
	if !known {
		return VF{}, ErrNone
	}
	return found, nil
}

// parseInfo reads one function's block into found, if it is the one of vf.
func parseInfo(info *netlink.AttributeDecoder, vf uint32, found *VF) (bool, error) {
	is := false
	for info.Next() {
		data := info.Bytes()
		switch {
		case info.Type() == unix.IFLA_VF_MAC && len(data) >= 4+6 && binary.NativeEndian.Uint32(data) == vf:
			found.MAC = net.HardwareAddr(data[4:10])
			is = true
		case info.Type() == unix.IFLA_VF_VLAN && len(data) >= 12 && binary.NativeEndian.Uint32(data) == vf:
			found.VLAN, found.QoS = binary.NativeEndian.Uint32(data[4:]), binary.NativeEndian.Uint32(data[8:])
			is = true
		}
	}
	return is, nil
}
