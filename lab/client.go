// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
	"time"

	"kindred/lab/internal/wire"
)

// Cmd is a command to run in a guest. Its environment is the guest's with Env
// ("KEY=value") added, its directory /root. Stdin may be nil.
type Cmd struct {
	Argv  []string
	Env   []string
	Stdin io.Reader
}

// Result is how a command ended. A command killed by a signal has the exit code a
// shell gives it: 128 and the signal's number.
type Result struct {
	Stdout   []byte
	Stderr   []byte
	ExitCode int
}

// Client asks a guest to do things. Its methods may be used at the same time, and
// a context that ends gives up what it asked for, in the guest too.
type Client struct {
	name string
	conn net.Conn
	// explain turns the loss of the connection into its reason.
	explain func(error) error

	writing sync.Mutex

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan reply
	lost    error
	gone    chan struct{} // closed with lost set
}

type reply struct {
	resp wire.Response
	body []byte
}

func newClient(name string, conn net.Conn) *Client {
	return &Client{
		name: name, conn: conn,
		explain: func(err error) error { return err },
		waiting: map[uint64]chan reply{},
		gone:    make(chan struct{}),
	}
}

// Dial reaches a guest that another program booted and offers with [Guest.Serve].
func Dial(ctx context.Context, name, socket string) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("lab: guest %s: %w", name, err)
	}
	c := newClient(name, conn)
	go c.receive()
	return c, nil
}

// Hangup ends the connection, not the guest.
func (c *Client) Hangup() error { return c.conn.Close() }

// receive hands answers to who waits for them until the connection ends.
func (c *Client) receive() {
	for {
		var resp wire.Response
		body, err := wire.Read(c.conn, &resp)
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			c.fail(fmt.Errorf("the connection to the guest ended: %w", err))
			return
		}
		c.mu.Lock()
		ch := c.waiting[resp.ID]
		delete(c.waiting, resp.ID)
		c.mu.Unlock()
		if ch != nil { // nil: given up meanwhile
			ch <- reply{resp, body}
		}
	}
}

func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost == nil {
		c.lost = err
		close(c.gone)
	}
}

// call is exchange with errors that say what was asked of whom.
func (c *Client) call(ctx context.Context, req wire.Request, body []byte) (reply, error) {
	r, err := c.exchange(ctx, req, body)
	if err != nil {
		return reply{}, c.failed(req, err)
	}
	return r, nil
}

// exchange sends a request and waits for its answer.
func (c *Client) exchange(ctx context.Context, req wire.Request, body []byte) (reply, error) {
	ch := make(chan reply, 1)
	c.mu.Lock()
	c.last++
	req.ID = c.last
	c.waiting[req.ID] = ch
	c.mu.Unlock()
	if err := c.send(ctx, req, body); err != nil {
		c.forget(req.ID)
		return reply{}, err
	}
	select {
	case r := <-ch:
		if r.resp.Error != "" {
			return reply{}, errors.New(r.resp.Error)
		}
		return r, nil
	case <-ctx.Done():
		c.forget(req.ID)
		// The guest kills what it started. If it cannot be told, it is gone anyway.
		stop, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer done()
		_ = c.send(stop, wire.Request{ID: req.ID, Op: wire.OpCancel}, nil)
		return reply{}, context.Cause(ctx)
	case <-c.gone:
		c.forget(req.ID)
		return reply{}, c.explain(c.lost)
	}
}

func (c *Client) send(ctx context.Context, req wire.Request, body []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	select {
	case <-c.gone:
		return c.explain(c.lost)
	default:
	}
	// A frame cut short would garble all that follow, so a deadline that strikes
	// inside one ends the connection.
	stop := context.AfterFunc(ctx, func() { c.conn.SetWriteDeadline(time.Unix(1, 0)) })
	err := wire.Write(c.conn, req, body)
	if !stop() {
		c.conn.SetWriteDeadline(time.Time{})
	}
	if err == nil {
		return nil
	}
	c.fail(err)
	c.conn.Close()
	if ctx.Err() != nil {
		return fmt.Errorf("the guest took no more data: %w", context.Cause(ctx))
	}
	return c.explain(err)
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

func (c *Client) failed(req wire.Request, err error) error {
	what := req.Op
	switch {
	case len(req.Argv) > 0:
		what += fmt.Sprintf(" %q", req.Argv)
	case req.Path != "":
		what += " " + req.Path
	}
	return fmt.Errorf("lab: guest %s: %s: %w", c.name, what, err)
}

// Run runs a command to its end. That it exits with another code than 0 is no error.
func (c *Client) Run(ctx context.Context, cmd Cmd) (Result, error) {
	var stdin []byte
	if cmd.Stdin != nil {
		var err error
		if stdin, err = io.ReadAll(io.LimitReader(cmd.Stdin, wire.MaxBody+1)); err != nil {
			return Result{}, fmt.Errorf("lab: guest %s: reading the input for %q: %w", c.name, cmd.Argv, err)
		}
	}
	r, err := c.call(ctx, wire.Request{Op: wire.OpRun, Argv: cmd.Argv, Env: cmd.Env}, stdin)
	if err != nil {
		return Result{}, err
	}
	n := r.resp.Stdout
	if n < 0 || n > len(r.body) {
		return Result{}, fmt.Errorf("lab: guest %s: run %q: garbled answer", c.name, cmd.Argv)
	}
	return Result{Stdout: r.body[:n:n], Stderr: r.body[n:], ExitCode: r.resp.ExitCode}, nil
}

// Put writes an ordinary file, making the directories above it. The file appears
// whole. For the kernel's pseudo-files, run a shell.
func (c *Client) Put(ctx context.Context, path string, mode fs.FileMode, r io.Reader) error {
	part := make([]byte, wire.PartSize)
	for offset := int64(0); ; {
		n, err := io.ReadFull(r, part)
		last := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			return fmt.Errorf("lab: guest %s: reading what to put at %s: %w", c.name, path, err)
		}
		req := wire.Request{Op: wire.OpPut, Path: path, Mode: uint32(mode.Perm()), Offset: offset, Last: last}
		if _, err := c.call(ctx, req, part[:n]); err != nil || last {
			return err
		}
		offset += int64(n)
	}
}

// Get returns the contents of a file of at most 64 MiB, pseudo-files included.
func (c *Client) Get(ctx context.Context, path string) ([]byte, error) {
	r, err := c.call(ctx, wire.Request{Op: wire.OpGet, Path: path}, nil)
	return r.body, err
}

// Capture writes a tar of everything that the globs match and what is below it: a
// piece of the guest's /sys, /proc or /etc to test against later. Names have no
// leading slash; the directories above and the links passed on the way are there
// too; links below are kept as links; modes are kept; all times are zero and the
// order is by name, so the same state gives the same bytes.
//
// Contents are what reading gives, at most 64 KiB. A file that was not read, or
// not to its end, has the PAX record KINDRED.unread: "write-only", "device
// memory" (reading would touch hardware), "consumed by reading", "blocked", "cut",
// or the error.
func (c *Client) Capture(ctx context.Context, globs []string, w io.Writer) error {
	r, err := c.call(ctx, wire.Request{Op: wire.OpCapture, Globs: globs}, nil)
	if err != nil {
		return err
	}
	if _, err := w.Write(r.body); err != nil {
		return fmt.Errorf("lab: guest %s: writing the capture: %w", c.name, err)
	}
	return nil
}

// KernelLog returns what dmesg would show, from the kernel's whole buffer.
func (c *Client) KernelLog(ctx context.Context) ([]byte, error) {
	r, err := c.call(ctx, wire.Request{Op: wire.OpKlog}, nil)
	return r.body, err
}
