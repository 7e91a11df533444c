// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"kindred/server"
)

// handshakes is a TLS listener that hands out connections once their handshake
// is over. A goroutine keeps the stack that it needed once: the one of
// [net/http] that lives as long as an agent's connection would have twice the
// memory for ever, for a certificate that was checked at its beginning.
type handshakes struct {
	net.Listener
	config *tls.Config
	ready  chan accepted
	closed chan struct{}
	once   sync.Once
}

type accepted struct {
	conn net.Conn
	err  error
}

// handshakeWait is how long a handshake may take.
const handshakeWait = 10 * time.Second

func listenTLS(l net.Listener, config *tls.Config) net.Listener {
	h := &handshakes{Listener: l, config: config, ready: make(chan accepted), closed: make(chan struct{})}
	go h.accept()
	return h
}

// accept ends with the listener.
func (h *handshakes) accept() {
	for {
		c, err := h.Listener.Accept()
		if err != nil {
			if !h.pass(accepted{nil, err}) {
				return
			}
			continue
		}
		go h.shake(tls.Server(server.Gathering(c), h.config))
	}
}

func (h *handshakes) shake(c *tls.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeWait)
	defer cancel()
	// Whoever gets the connection meets the same error again, and says so.
	_ = c.HandshakeContext(ctx)
	if !h.pass(accepted{c, nil}) {
		c.Close() // nobody is there to be told
	}
}

func (h *handshakes) pass(a accepted) bool {
	select {
	case h.ready <- a:
		return true
	case <-h.closed:
		return false
	}
}

func (h *handshakes) Accept() (net.Conn, error) {
	select {
	case a := <-h.ready:
		return a.conn, a.err
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handshakes) Close() error {
	h.once.Do(func() { close(h.closed) })
	return h.Listener.Close()
}
