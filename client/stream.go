// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"kindred/api"
)

// silence is after how long without a word a stream is given up: the server says
// something every ten seconds.
const silence = 35 * time.Second

// maxEvent bounds one event.
const maxEvent = 32 << 20

// errSilent ends a stream that fell silent.
var errSilent = errors.New("the server fell silent")

// Assignments calls yield with what a host has to do, at first and at each
// change, until the stream ends, which is always an error: whoever listens comes
// again.
func (c *Client) Assignments(ctx context.Context, host string, yield func(*api.Assignments) error) error {
	return c.stream(ctx, request{method: http.MethodGet, path: path(api.PathAssignments, host)}, func(_, data string) error {
		a := new(api.Assignments)
		if err := json.Unmarshal([]byte(data), a); err != nil {
			return fmt.Errorf("read assignments: %w", err)
		}
		return yield(a)
	})
}

// Events calls yield with changes after a revision (0: from now) until the
// stream ends, which is always an error.
func (c *Client) Events(ctx context.Context, kinds []api.EventKind, after int64, yield func(*api.Event) error) error {
	r := request{method: http.MethodGet, path: api.PathEvents, query: url.Values{}, header: http.Header{}}
	var names []string
	for _, k := range kinds {
		names = append(names, string(k))
	}
	if len(names) > 0 {
		r.query.Set("kinds", strings.Join(names, ","))
	}
	if after > 0 {
		r.header.Set(api.HeaderLast, strconv.FormatInt(after, 10))
	}
	return c.stream(ctx, r, func(_, data string) error {
		e := new(api.Event)
		if err := json.Unmarshal([]byte(data), e); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		return yield(e)
	})
}

// stream reads events from the first server that answers.
func (c *Client) stream(ctx context.Context, r request, yield func(kind, data string) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer watch.Stop()
	var failed error
	first := c.next.Load()
	for i := range c.servers {
		n := (int(first) + i) % len(c.servers)
		resp, err := c.servers[n].send(ctx, r, nil)
		if err != nil {
			failed = errors.Join(failed, err)
			if ctx.Err() != nil {
				break
			}
			continue
		}
		c.next.Store(uint32(n))
		defer resp.Body.Close()
		err = read(resp.Body, func() { watch.Reset(silence) }, yield)
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("server %s: %w", c.servers[n].name, err)
	}
	return failed
}

// read takes server-sent events apart. The end of the stream is an error.
func read(from io.Reader, alive func(), yield func(kind, data string) error) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxEvent)
	var kind string
	var data []string
	for lines.Scan() {
		alive()
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if len(data) > 0 {
				if err := yield(kind, strings.Join(data, "\n")); err != nil {
					return err
				}
			}
			kind, data = "", nil
		case name == "event":
			kind = value
		case name == "data":
			data = append(data, value)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}
