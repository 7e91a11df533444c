// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"

	rpc "github.com/digitalocean/go-libvirt"
)

// System is the connection that hypervisors have.
const System = "qemu:///system"

// sockets are where the daemons listen: the modular one, and the old one for all
// drivers. libvirt's own clients look in this order too (remote_sockets.c).
var sockets = []string{"/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock"}

// Conn is a connection to a daemon.
type Conn struct {
	uri    string
	rpc    *rpc.Libvirt
	socket *socket
	came   sync.Map // UUIDs of domains that got their state here
}

// socket dials, and keeps what it dialled: closing it ends every call that waits.
type socket struct {
	ctx  context.Context
	path string

	mu   sync.Mutex
	conn net.Conn
}

func (s *socket) Dial() (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(s.ctx, "unix", s.path)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = c
	return c, err
}

func (s *socket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
	}
}

// Dial connects to a daemon of this machine: qemu:///system, or with another
// socket qemu+unix:///system?socket=/path.
func Dial(ctx context.Context, uri string) (*Conn, error) {
	path, driver, err := local(uri)
	if err != nil {
		return nil, err
	}
	s := &socket{ctx: ctx, path: path}
	c := &Conn{uri: uri, rpc: rpc.NewWithDialer(s), socket: s}
	if _, err := call(ctx, c, "connect", func() (struct{}, error) { return struct{}{}, c.rpc.ConnectToURI(driver) }); err != nil {
		s.close()
		return nil, fmt.Errorf("libvirt %s at %s: %w", uri, path, err)
	}
	return c, nil
}

// local takes a URI apart: the socket, and what the daemon is asked for.
func local(uri string) (path string, driver rpc.ConnectURI, err error) {
	u, err := url.Parse(uri)
	if err != nil {
		return "", "", fmt.Errorf("libvirt's address %q: %w", uri, err)
	}
	scheme, transport, _ := strings.Cut(u.Scheme, "+")
	if scheme == "" || transport != "" && transport != "unix" || u.Host != "" {
		return "", "", fmt.Errorf("libvirt's address %q is none on this machine, such as %s or qemu+unix:///system?socket=/path", uri, System)
	}
	driver = rpc.ConnectURI(scheme + "://" + u.Path)
	if path = u.Query().Get("socket"); path != "" {
		return path, driver, nil
	}
	for _, path = range sockets {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return path, driver, nil
}

// Close ends the connection, and every call that waits.
func (c *Conn) Close() { c.socket.close() }

// Error is what libvirt refused.
type Error struct {
	What string
	Code uint32 // virErrorNumber
	Text string
}

func (e *Error) Error() string { return e.What + ": " + e.Text }

// ErrNoDomain is a domain that libvirt does not have.
var ErrNoDomain = errors.New("there is no such domain")

// Is lets errors.Is(err, ErrNoDomain) work.
func (e *Error) Is(target error) bool {
	return target == ErrNoDomain && e.Code == uint32(rpc.ErrNoDomain)
}

// call makes one call. The library knows no contexts: a call that outlives its
// own goes on until the connection is closed.
func call[T any](ctx context.Context, c *Conn, what string, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := do()
		done <- result{value, err}
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		r.err = ctx.Err()
	}
	if r.err == nil {
		return r.value, nil
	}
	if refused, ok := errors.AsType[rpc.Error](r.err); ok {
		return r.value, &Error{what, refused.Code, strings.TrimSpace(refused.Message)}
	}
	return r.value, fmt.Errorf("%s: %w", what, r.err)
}
