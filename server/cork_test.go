// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// lookingWriter looks before each write.
type lookingWriter struct {
	http.ResponseWriter
	look func()
}

func (w *lookingWriter) Write(text []byte) (int, error) {
	w.look()
	return w.ResponseWriter.Write(text)
}

// TestCork: a long answer by HTTP/1 goes through a corked socket, which is open
// afterwards; a short one, and one by HTTP/2, do not.
func TestCork(t *testing.T) {
	var socket syscall.RawConn // of the connection that was made last
	corkedNow := func() (is int) {
		err := socket.Control(func(fd uintptr) {
			var err error
			if is, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Error(err)
		}
		return is
	}
	for _, c := range []struct {
		http2      bool
		size, want int
	}{{false, longAnswer, 0}, {false, longAnswer + 1, 1}, {false, 11 * longAnswer, 1}, {true, 11 * longAnswer, 0}} {
		text := bytes.Repeat([]byte("x"), c.size)
		answer := corked(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if _, err := w.Write(text); err != nil {
				t.Error(err)
			}
		}))
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			during := -1
			answer.ServeHTTP(&lookingWriter{w, func() { during = corkedNow() }}, r)
			if after := corkedNow(); during != c.want || after != 0 {
				t.Errorf("%+v: corked %d while it was written, %d afterwards", c, during, after)
			}
		}))
		s.EnableHTTP2 = c.http2
		s.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
			over := conn.(*tls.Conn)
			var err error
			if socket, err = over.NetConn().(*net.TCPConn).SyscallConn(); err != nil {
				t.Error(err)
			}
			if err := over.Handshake(); err != nil { // as the listener does
				t.Error(err)
			}
			return ConnIdentity(ctx, conn)
		}
		s.StartTLS()
		for range 2 { // the second finds the connection as the first left it
			resp, err := s.Client().Get(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !bytes.Equal(got, text) || (resp.ProtoMajor == 2) != c.http2 {
				t.Errorf("%+v: %s, %d bytes, %v", c, resp.Proto, len(got), err)
			}
		}
		s.Close()
	}
}
