// SPDX-License-Identifier: Apache-2.0

// Package client asks a fleet server, in Go. Its methods are the API's
// operations, its types those of package api.
//
// It promises:
//
//   - A refusal of the server is an [*api.Problem], whatever else went wrong is
//     not.
//   - Of several servers, the next is asked when one cannot be reached, has no
//     store, or is busy. A request that makes something carries a key, so that it makes one
//     thing however often it had to be sent.
//   - Nothing waits for ever: who asks bounds a request by its context, and a
//     stream that falls silent ends.
package client

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"kindred/api"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Client asks one of several servers of one fleet.
type Client struct {
	servers []server
	next    atomic.Uint32 // the server that answered last
}

type server struct {
	name string // as it was given
	base string
	http *http.Client
}

// headers is how much of the headers of requests a server has to remember for a
// connection, in bytes: nothing, the least that can be said. It has thousands of
// connections, on which little is asked.
const headers = 1

// New makes a client for servers, by address: unix:/run/kindred/server.sock,
// https://fleet:7443, http://127.0.0.1:7480. config is for https.
func New(addresses []string, config *tls.Config) (*Client, error) {
	if len(addresses) == 0 {
		return nil, errors.New("no server is named")
	}
	c := new(Client)
	for _, a := range addresses {
		t := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second}
		// All requests share a connection. One of which something between has lost sight
		// would take every request for a quarter of an hour: it is asked for a sign of life.
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 10 * time.Second, MaxEncoderHeaderTableSize: headers, MaxReadFrameSize: api.MaxFrame}
		s := server{name: a, base: strings.TrimSuffix(a, "/"), http: &http.Client{Transport: t}}
		if path, ok := strings.CutPrefix(a, "unix:"); ok {
			s.base = "http://kindred"
			t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			}
		} else if u, err := url.Parse(a); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return nil, fmt.Errorf("server %q is not an address such as unix:/run/kindred/server.sock or https://fleet:7443", a)
		}
		c.servers = append(c.servers, s)
	}
	return c, nil
}

// Dial has connections made in another way, for who has a network of his own. It
// is called before the first request.
func (c *Client) Dial(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	for _, s := range c.servers {
		s.http.Transport.(*http.Transport).DialContext = dial
	}
}

// Close ends connections that nobody uses.
func (c *Client) Close() {
	for _, s := range c.servers {
		s.http.CloseIdleConnections()
	}
}

// request is one question to whichever server answers.
type request struct {
	method, path string
	query        url.Values
	header       http.Header
	body, into   any
	gzip         bool // the body is sent compressed
}

// zippers compress what is sent. Agents send seldom, and what they do not need
// for long is let go.
var zippers = sync.Pool{New: func() any {
	z, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(fmt.Sprintf("compress at this level: %v", err)) // it is a constant
	}
	return z
}}

func gzipped(text []byte) []byte {
	data := bytes.NewBuffer(make([]byte, 0, len(text)/2))
	z := zippers.Get().(*gzip.Writer)
	defer zippers.Put(z)
	z.Reset(data)
	_, _ = z.Write(text) // memory takes all
	_ = z.Close()
	return data.Bytes()
}

// path fills in the names of a path's parts.
func path(template string, values ...string) string {
	for _, v := range values {
		from, rest, _ := strings.Cut(template, "{")
		_, to, _ := strings.Cut(rest, "}")
		template = from + url.PathEscape(v) + to
	}
	return template
}

// do asks one server after the other until one answers.
func (c *Client) do(ctx context.Context, r request) error {
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return fmt.Errorf("%s %s: encode the request: %w", r.method, r.path, err)
		}
		if r.gzip {
			body = gzipped(body)
		}
	}
	var failed error
	first := c.next.Load()
	for i := range c.servers {
		n := (int(first) + i) % len(c.servers)
		resp, err := c.servers[n].send(ctx, r, body)
		if err == nil {
			c.next.Store(uint32(n))
			return decode(resp, r.into)
		}
		failed = errors.Join(failed, err)
		p, refused := errors.AsType[*api.Problem](err)
		if ctx.Err() != nil || refused && p.Code != api.Unavailable && p.Code != api.TooBusy {
			return err
		}
	}
	return failed
}

// send asks one server. The answer is a success, and still to be read.
func (s *server) send(ctx context.Context, r request, body []byte) (*http.Response, error) {
	address := s.base + r.path
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, address, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", s.name, err)
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.gzip {
		req.Header.Set("Content-Encoding", api.Gzip)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the address was named
		}
		return nil, fmt.Errorf("server %s: %w", s.name, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	p := new(api.Problem)
	data, err := io.ReadAll(io.LimitReader(resp.Body, api.MaxBody))
	if err != nil || json.Unmarshal(data, p) != nil || p.Code == "" {
		return nil, fmt.Errorf("server %s: %s, which is no answer of a Kindred server", s.name, resp.Status)
	}
	return nil, p
}

func decode(resp *http.Response, into any) error {
	defer resp.Body.Close()
	if into == nil {
		_, err := io.Copy(io.Discard, resp.Body)
		return err
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return nil
}

// ask is a question with an answer of one type.
func ask[T any](ctx context.Context, c *Client, r request) (*T, error) {
	out := new(T)
	r.into = out
	if err := c.do(ctx, r); err != nil {
		return nil, err
	}
	return out, nil
}

// once gives a request that makes something its key.
func once(key string) http.Header {
	if key == "" {
		key = rand.Text()
	}
	return http.Header{api.HeaderKey: {key}}
}
