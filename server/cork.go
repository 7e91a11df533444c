// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"syscall"

	"golang.org/x/sys/unix"
)

// longAnswer is how many bytes TLS sends at once, at most. Of a longer answer it makes
// pieces, each of which is a write to the kernel and wakes whoever reads: of one about
// a hundred hosts that is eleven times, and after each the server may wait for its
// turn. A socket that is corked sends what fills its packets, and the rest when it is
// opened again (tcp(7), TCP_CORK).
const longAnswer = 16 << 10

type socketKey struct{}

// withSocket puts the socket of a connection over TLS into its context. By HTTP/2
// many answers share a connection, and none may hold back the others: there it does
// nothing.
func withSocket(ctx context.Context, c *tls.Conn) context.Context {
	local, ok := c.NetConn().(*net.TCPConn)
	if !ok || c.ConnectionState().NegotiatedProtocol == "h2" {
		return ctx
	}
	socket, err := local.SyscallConn()
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, socketKey{}, socket)
}

// corked sends long answers in few pieces, on connections whose socket is known.
func corked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if socket, ok := r.Context().Value(socketKey{}).(syscall.RawConn); ok {
			w = &corkedWriter{w, socket}
		}
		next.ServeHTTP(w, r)
	})
}

type corkedWriter struct {
	http.ResponseWriter
	socket syscall.RawConn
}

func (w *corkedWriter) Write(text []byte) (int, error) {
	if len(text) > longAnswer {
		w.cork(1)
		defer w.cork(0)
	}
	return w.ResponseWriter.Write(text)
}

// cork closes and opens the socket. One that cannot be corked sends as it always does.
func (w *corkedWriter) cork(on int) {
	_ = w.socket.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, on) })
}

// Unwrap is for [http.ResponseController].
func (w *corkedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
