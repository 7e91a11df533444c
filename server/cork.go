// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/tls"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Of a long answer TLS makes pieces of 16 KiB, each of which is a write to the
// kernel and wakes whoever reads: of an answer about a hundred hosts that is eleven
// times, and after each the server may wait for its turn. A socket that is corked
// sends what fills its packets, and the rest when it is open again (tcp(7), TCP_CORK).
const longAnswer = 16 << 10

type socketKey struct{}

// withSocket puts the socket of a connection by HTTP/1 into its context. By HTTP/2
// others share it, who must not wait.
func withSocket(ctx context.Context, c *tls.Conn) context.Context {
	local, ok := c.NetConn().(*net.TCPConn)
	if !ok {
		return ctx
	}
	socket, err := local.SyscallConn()
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, socketKey{}, socket)
}

// cork holds back what does not fill a packet until it is called to open. A
// connection without a socket in its context sends as it always does.
func cork(ctx context.Context) (open func()) {
	socket, ok := ctx.Value(socketKey{}).(syscall.RawConn)
	if !ok {
		return func() {}
	}
	set := func(on int) {
		_ = socket.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, on) })
	}
	set(1)
	return func() { set(0) }
}
