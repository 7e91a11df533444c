// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// maxMessage bounds one message of QEMU's. Its longest answers are schemas of a few
// hundred kilobytes, for which nobody asks here.
const maxMessage = 4 << 20

// Conn is a monitor that is listened to.
type Conn struct {
	socket string
	conn   net.Conn

	mu    sync.Mutex // one command at a time: answers come in their order
	lines *bufio.Scanner
}

// Error is a command that QEMU refused.
type Error struct {
	Command string
	Class   string // GenericError, CommandNotFound, DeviceNotFound, …
	Text    string
}

func (e *Error) Error() string { return e.Command + ": " + e.Text }

// message is all that QEMU says: a greeting, an answer, or an event.
type message struct {
	QMP    *json.RawMessage `json:"QMP"`
	Return json.RawMessage  `json:"return"`
	Event  string           `json:"event"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// Dial connects to a monitor's socket.
func Dial(ctx context.Context, socket string) (*Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("QEMU's socket: %w", err)
	}
	c := &Conn{socket: socket, conn: conn, lines: bufio.NewScanner(conn)}
	c.lines.Buffer(nil, maxMessage)
	if err := c.greet(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// greet waits for the greeting, and begins.
func (c *Conn) greet(ctx context.Context) error {
	defer c.bound(ctx)()
	m, err := c.read()
	if err == nil && m.QMP == nil {
		err = errors.New("it is no QMP monitor")
	}
	if err != nil {
		return fmt.Errorf("QEMU's socket %s does not greet (does another client use it?): %w", c.socket, c.cause(ctx, err))
	}
	return c.execute(ctx, "qmp_capabilities", nil, nil)
}

// Close ends the connection.
func (c *Conn) Close() { c.conn.Close() }

// bound lets the connection's next reads and writes last as long as the context.
func (c *Conn) bound(ctx context.Context) (free func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) }) // a unix socket has deadlines
}

// cause is the context's error, where that ended a read.
func (c *Conn) cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (c *Conn) read() (*message, error) {
	if !c.lines.Scan() {
		if err := c.lines.Err(); err != nil {
			return nil, err
		}
		return nil, errors.New("QEMU ended the connection")
	}
	m := new(message)
	if err := json.Unmarshal(c.lines.Bytes(), m); err != nil {
		return nil, fmt.Errorf("QEMU says what is no message: %w", err)
	}
	return m, nil
}

// Execute runs a command, and reads what it returns into a pointer. After an error
// that is none of QEMU's the connection is of no use any more.
func (c *Conn) Execute(ctx context.Context, command string, arguments, into any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.bound(ctx)()
	return c.execute(ctx, command, arguments, into)
}

func (c *Conn) execute(ctx context.Context, command string, arguments, into any) error {
	text, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if _, err := c.conn.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("%s: %w", command, c.cause(ctx, err))
	}
	for {
		m, err := c.read()
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", command, c.cause(ctx, err))
		case m.Event != "":
			continue
		case m.Error != nil:
			return &Error{command, m.Error.Class, m.Error.Desc}
		case into == nil:
			return nil
		}
		if err := json.Unmarshal(m.Return, into); err != nil {
			return fmt.Errorf("%s: read the answer: %w", command, err)
		}
		return nil
	}
}
