// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// tailSize is how much of a console is remembered: a panic with its call trace.
const tailSize = 64 << 10

// console is a guest's serial line. It is always read, because a line nobody
// reads stops the guest's kernel in the middle of a message.
type console struct {
	conn net.Conn
	done chan struct{} // the line has ended: QEMU is gone

	mu       sync.Mutex
	tail     []byte
	watchers map[net.Conn]bool
}

func newConsole(conn net.Conn) *console {
	c := &console{conn: conn, done: make(chan struct{}), watchers: map[net.Conn]bool{}}
	go c.read()
	return c
}

func (c *console) read() {
	defer close(c.done)
	buf := make([]byte, 16<<10)
	for {
		n, err := c.conn.Read(buf)
		c.mu.Lock()
		c.tail = append(c.tail, buf[:n]...)
		if extra := len(c.tail) - tailSize; extra > 0 {
			c.tail = append([]byte(nil), c.tail[extra:]...)
		}
		for w := range c.watchers {
			// One that does not read must not stop the guest: it is dropped.
			w.SetWriteDeadline(time.Now().Add(2 * time.Second))
			if _, err := w.Write(buf[:n]); err != nil {
				w.Close()
				delete(c.watchers, w)
			}
		}
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *console) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.tail)
}

// attach connects a terminal's other end to the line until either ends.
func (c *console) attach(conn net.Conn) {
	c.mu.Lock()
	c.watchers[conn] = true
	c.mu.Unlock()
	stop := make(chan struct{})
	go func() {
		select {
		case <-c.done:
		case <-stop:
		}
		conn.Close()
	}()
	// The shell's prompt is long past: a return shows it again.
	_, _ = c.conn.Write([]byte("\n"))
	_, _ = io.Copy(c.conn, conn)
	close(stop)
	c.mu.Lock()
	delete(c.watchers, conn)
	c.mu.Unlock()
}

// ServeConsole offers the shell on the guest's serial console to whoever connects
// to the listener, several at once if they like, until ctx ends.
func (g *Guest) ServeConsole(ctx context.Context, l net.Listener) error {
	return accept(ctx, l, func(conn net.Conn) { g.console.attach(conn) })
}

// accept serves connections until ctx ends, then closes them and waits.
func accept(ctx context.Context, l net.Listener, serve func(net.Conn)) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("lab: accepting on %s: %w", l.Addr(), err)
		}
		all.Go(func() {
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			defer conn.Close()
			serve(conn)
		})
	}
}

// DiedError says that a guest went away by itself.
type DiedError struct {
	Host string
	// Cause is the console's line that says most, or how QEMU ended.
	Cause string
	// Console is what the guest last said.
	Console string
}

func (e *DiedError) Error() string {
	return fmt.Sprintf("guest %s died: %s\nits console ended with:\n%s", e.Host, e.Cause, e.Console)
}

// tellingLines are looked for in this order.
var tellingLines = []string{"lab guest: ", "Kernel panic - not syncing", "BUG: ", "Oops: "}

const tailLines = 40

// died makes the error from what the console said and how QEMU ended.
func died(host, consoleText, qemu string) *DiedError {
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(consoleText, "\r", "")), "\n")
	e := &DiedError{Host: host, Cause: qemu}
search:
	for _, telling := range tellingLines {
		for _, line := range lines {
			if strings.Contains(line, telling) {
				e.Cause = strings.TrimSpace(line)
				break search
			}
		}
	}
	e.Console = strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
	return e
}
