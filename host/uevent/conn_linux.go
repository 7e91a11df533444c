// SPDX-License-Identifier: Apache-2.0

package uevent

import (
	"context"
	"errors"
	"fmt"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

// kernelGroup is the multicast group of the kernel's messages; udev sends what
// it made of them to another.
const kernelGroup = 1

// receiveBuffer is for bursts: a card with many functions tells of all at once.
// The kernel doubles it, which is room for about three thousand messages.
const receiveBuffer = 1 << 20

// Conn receives messages.
type Conn struct{ conn *socket.Conn }

// Listen begins to receive. What happened before is not told.
func Listen() (*Conn, error) {
	conn, err := socket.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT, "uevent", nil)
	if err != nil {
		return nil, fmt.Errorf("open a socket for kernel events: %w", err)
	}
	c := &Conn{conn}
	if err := errors.Join(
		conn.SetsockoptInt(unix.SOL_SOCKET, unix.SO_PASSCRED, 1),
		conn.Bind(&unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}),
	); err != nil {
		conn.Close()
		return nil, fmt.Errorf("listen to kernel events: %w", err)
	}
	_ = conn.SetReadBuffer(receiveBuffer) // a smaller one overruns earlier
	return c, nil
}

// Close ends it.
func (c *Conn) Close() error { return c.conn.Close() }

// Next waits for the kernel's next message.
func (c *Conn) Next(ctx context.Context) (Event, error) {
	// UEVENT_BUFFER_SIZE of include/linux/kobject.h is 2048, and the head.
	buf, oob := make([]byte, 8192), make([]byte, 256)
	for {
		n, oobn, flags, from, err := c.conn.Recvmsg(ctx, buf, oob, 0)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			if err := c.drain(ctx); err != nil {
				return Event{}, fmt.Errorf("receive kernel events: %w", err)
			}
			return Event{}, ErrOverrun
		case err != nil:
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return Event{}, fmt.Errorf("receive kernel events: %w", err)
		case flags&unix.MSG_TRUNC != 0 || !fromKernel(from, oob[:oobn]):
			continue
		}
		if e, err := Parse(buf[:n]); err == nil {
			return e, nil
		}
	}
}

// drain drops what is waiting. From an overrun on the kernel drops messages,
// without another word, until the socket is empty (NETLINK_S_CONGESTED of
// net/netlink/af_netlink.c): only what is read after that can be relied on.
func (c *Conn) drain(ctx context.Context) error {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, 1) // the rest of a message is dropped
	for err == nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		failed := raw.Read(func(fd uintptr) bool {
			_, _, err = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			return true
		})
		if failed != nil {
			return failed
		}
		if errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR) {
			err = nil
		}
	}
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	return err
}

// fromKernel checks the sender: port 0 is the kernel's, and so are credentials
// with process 0 (netlink_broadcast() and uevent_net_broadcast_untagged() of
// lib/kobject_uevent.c set them).
func fromKernel(from unix.Sockaddr, oob []byte) bool {
	address, ok := from.(*unix.SockaddrNetlink)
	if !ok || address.Pid != 0 || address.Groups&kernelGroup == 0 {
		return false
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return false
	}
	for i := range msgs {
		if cred, err := unix.ParseUnixCredentials(&msgs[i]); err == nil {
			return cred.Pid == 0 && cred.Uid == 0
		}
	}
	return false
}
