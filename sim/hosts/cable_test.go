// SPDX-License-Identifier: Apache-2.0

package hosts_test

import (
	"context"
	"errors"
	"net"
	"sync"
)

// cables are a network within the process: whoever has a cable reaches whoever
// listens, through pipes that wait for nothing but each other.
type cables struct {
	mu     sync.Mutex
	server *listener // nil: nobody listens
}

// listener is a server's end.
type listener struct {
	conns chan net.Conn
	done  chan struct{}
	end   func()
}

func (n *cables) listen() *listener {
	l := &listener{conns: make(chan net.Conn), done: make(chan struct{})}
	l.end = sync.OnceFunc(func() { close(l.done) })
	n.mu.Lock()
	defer n.mu.Unlock()
	n.server = l
	return l
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error   { l.end(); return nil }
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "cables", Net: "unix"} }

// how a cable is cut.
type how string

const (
	silent  how = "silent"  // what is sent arrives when it is mended
	answers how = "answers" // the same, of what the server sends alone
	reset   how = "reset"   // connections end, and none can be made
	// Nothing goes through connections that there are, also after it is mended, and
	// nobody is told: something between has forgotten them.
	forgotten how = "forgotten"
)

// cable is one party's connection with servers.
type cable struct {
	net *cables

	mu    sync.Mutex
	cut   how           // empty: it is whole
	whole chan struct{} // closed when it is
	conns map[*wire]bool
}

func newCable(n *cables) *cable {
	c := &cable{net: n, whole: make(chan struct{}), conns: make(map[*wire]bool)}
	close(c.whole)
	return c
}

func (c *cable) sever(h how) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut != "" {
		return
	}
	c.cut, c.whole = h, make(chan struct{})
	for w := range c.conns {
		switch h {
		case reset:
			w.client.Close()
			w.server.Close()
		case forgotten:
			w.forgotten = true
		}
	}
}

// wire is one connection in a cable.
type wire struct {
	client, server net.Conn // the cable's ends
	forgotten      bool
	carriers       int
}

func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut != "" {
		c.cut = ""
		close(c.whole)
	}
}

// passes waits until something gets through, from the server or to it, and reports
// whether it ever does.
func (c *cable) passes(w *wire, fromServer bool) bool {
	for {
		c.mu.Lock()
		cut, whole, forgotten := c.cut, c.whole, w.forgotten
		c.mu.Unlock()
		if forgotten {
			return false
		}
		if cut == "" || cut == reset || cut == answers && !fromServer {
			return true
		}
		<-whole
	}
}

var errRefused = errors.New("nobody listens, or the cable is cut")

// dial makes a connection. Through a cable that is silent it takes until that is
// mended.
func (c *cable) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	for {
		c.mu.Lock()
		cut, whole := c.cut, c.whole
		c.mu.Unlock()
		if cut == reset {
			return nil, errRefused
		}
		if cut == "" {
			break
		}
		select {
		case <-whole:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c.net.mu.Lock()
	l := c.net.server
	c.net.mu.Unlock()
	if l == nil {
		return nil, errRefused
	}
	mine, near := net.Pipe()
	far, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
	case <-l.done:
		return nil, errRefused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	w := &wire{client: near, server: far, carriers: 2}
	c.mu.Lock()
	c.conns[w] = true
	c.mu.Unlock()
	go c.carry(w, far, near, false)
	go c.carry(w, near, far, true)
	return mine, nil
}

// carry carries one direction until an end is closed. Who sends does not wait, as
// long as it is not much: there is room for it on the way.
func (c *cable) carry(w *wire, to, from net.Conn, fromServer bool) {
	sent := make(chan []byte, 1<<10)
	go func() {
		defer close(sent)
		for {
			buf := make([]byte, 32<<10)
			n, err := from.Read(buf)
			if n > 0 {
				sent <- buf[:n]
			}
			if err != nil {
				from.Close()
				return
			}
		}
	}()
	broken := false
	for part := range sent {
		if c.passes(w, fromServer) && !broken {
			if _, err := to.Write(part); err != nil {
				from.Close()
				broken = true
			}
		}
	}
	if c.passes(w, fromServer) {
		to.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.carriers--; w.carriers == 0 {
		delete(c.conns, w)
	}
}
