// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// longAnswer is how many bytes TLS sends at once, at most. Of a longer answer it makes
// pieces, each of which is a write to the kernel: of one about a hundred hosts that is
// eleven. In each the program may lose its turn, to whoever was woken by the piece
// before or to its own search for garbage. What is gathered goes in one.
const longAnswer = 16 << 10

// mostGathered is how long an answer may be to be gathered: what is held back is held
// in memory once more.
const mostGathered = 1 << 20

// Gathering is a connection whose writes can be gathered. [ConnIdentity] knows it
// below TLS.
func Gathering(c net.Conn) net.Conn { return &gathering{Conn: c} }

type gathering struct {
	net.Conn
	mu   sync.Mutex
	held *[]byte // nil: nothing is held back
}

var gatheredTexts scratch

func (g *gathering) Write(text []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == nil {
		return g.Conn.Write(text)
	}
	*g.held = append(*g.held, text...)
	return len(text), nil
}

// gather holds back what is written from now on.
func (g *gathering) gather() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = gatheredTexts.get()
}

// release writes what was held back.
func (g *gathering) release() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	held := g.held
	g.held = nil
	defer gatheredTexts.put(held, *held)
	_, err := g.Conn.Write(*held)
	return err
}

type gatheringKey struct{}

// withGathering puts a connection over TLS into its context, if its writes can be
// gathered. By HTTP/2 many answers share a connection, and none may hold back the
// others: there it does nothing.
func withGathering(ctx context.Context, c *tls.Conn) context.Context {
	if g, ok := c.NetConn().(*gathering); ok && c.ConnectionState().NegotiatedProtocol != "h2" {
		return context.WithValue(ctx, gatheringKey{}, g)
	}
	return ctx
}

// gathered sends long answers at once, where the connection can.
func gathered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g, ok := r.Context().Value(gatheringKey{}).(*gathering); ok {
			w = &gatheredWriter{w, g}
		}
		next.ServeHTTP(w, r)
	})
}

type gatheredWriter struct {
	http.ResponseWriter
	conn *gathering
}

func (w *gatheredWriter) Write(text []byte) (int, error) {
	if len(text) <= longAnswer || len(text) > mostGathered {
		return w.ResponseWriter.Write(text)
	}
	w.conn.gather()
	n, err := w.ResponseWriter.Write(text)
	if sent := w.conn.release(); err == nil {
		err = sent
	}
	return n, err
}

// Unwrap is for [http.ResponseController].
func (w *gatheredWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
