// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"kindred/api"
)

// countedConn is a connection that knows how long each of its writes was.
type countedConn struct {
	net.Conn
	mu     sync.Mutex
	writes []int
	broken error // nil: it works
}

func (c *countedConn) Write(text []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return 0, c.broken
	}
	c.writes = append(c.writes, len(text))
	return c.Conn.Write(text)
}

// told are the writes since it was asked last.
func (c *countedConn) told() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.writes
	c.writes = nil
	return list
}

// counting listens for one connection, as kindredd does.
type counting struct {
	net.Listener
	made chan *countedConn
}

func (l *counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	one := &countedConn{Conn: c}
	l.made <- one
	return Gathering(one), nil
}

func serveCounted(t *testing.T, h http.Handler, http2 bool) (*httptest.Server, *counting) {
	s := httptest.NewUnstartedServer(h)
	l := &counting{s.Listener, make(chan *countedConn, 1)}
	s.Listener, s.EnableHTTP2 = l, http2
	s.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if err := conn.(*tls.Conn).Handshake(); err != nil { // as the listener does
			t.Error(err)
		}
		return WithIdentity(ConnIdentity(ctx, conn), Identity{Name: "test", Admin: true})
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, l
}

// TestGather: a long answer by HTTP/1 is one write, and one for its end; by HTTP/2, and
// where it is too long to be held back, it is as many as ever.
func TestGather(t *testing.T) {
	for _, c := range []struct {
		http2           bool
		size            int
		writes, longest int // at most, at least
	}{{false, longAnswer, 5, 0}, {false, longAnswer + 1, 2, longAnswer + 1}, {false, 11 * longAnswer, 2, 11 * longAnswer}, {true, 11 * longAnswer, 100, 0}, {false, mostGathered + 1, 200, 0}} {
		text := bytes.Repeat([]byte("x"), c.size)
		s, l := serveCounted(t, gathered(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if n, err := w.Write(text); n != len(text) || err != nil {
				t.Error(n, err)
			}
		})), c.http2)
		var conn *countedConn
		for range 3 { // on one connection, which the ones before have left as it was
			resp, err := s.Client().Get(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !bytes.Equal(got, text) || (resp.ProtoMajor == 2) != c.http2 {
				t.Errorf("%+v: %s, %d bytes, %v", c, resp.Proto, len(got), err)
			}
			if conn == nil {
				conn = <-l.made
				conn.told() // and what the handshake wrote
				continue
			}
			switch writes := conn.told(); {
			case len(writes) > c.writes:
				t.Errorf("%+v: writes of %v bytes", c, writes)
			case c.longest > 0 && writes[0] < c.longest, c.longest == 0 && c.size > longAnswer && len(writes) < c.size/longAnswer:
				t.Errorf("%+v: writes of %v bytes", c, writes)
			}
		}
	}
}

// TestGatherBroken: an error that comes when it is sent is the writer's.
func TestGatherBroken(t *testing.T) {
	broken := errors.New("broken")
	told := make(chan error, 1)
	var l *counting
	s, l := serveCounted(t, gathered(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn := <-l.made
		conn.mu.Lock()
		conn.broken = broken
		conn.mu.Unlock()
		_, err := w.Write(make([]byte, 2*longAnswer))
		told <- err
	})), false)
	if resp, err := s.Client().Get(s.URL); err == nil {
		resp.Body.Close()
		t.Error("an answer came")
	}
	if err := <-told; !errors.Is(err, broken) {
		t.Errorf("the handler was told %v", err)
	}
}

// TestGatherTargets: the server's own answers come so.
func TestGatherTargets(t *testing.T) {
	machines := []*machine{newMachine("source", 2, &made{id: "d", typ: "small"})}
	for n := range 60 {
		machines = append(machines, newMachine(fmt.Sprintf("target%02d", n), 2))
	}
	r := newRig(t, machines...)
	running := r.start(r.open())
	for name := range r.machines {
		r.report(running, name)
	}
	s, l := serveCounted(t, running.Handler(), false)
	resp, err := s.Client().Post(s.URL+api.PathTargets, "application/json", strings.NewReader(`{"device":"source/d"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || len(text) <= longAnswer {
		t.Fatalf("%s, %d bytes, %v", resp.Status, len(text), err)
	}
	long := 0
	for _, n := range (<-l.made).told() {
		if n > longAnswer {
			long++
		}
		if n > longAnswer && n < len(text) {
			t.Errorf("a write of %d bytes of an answer of %d", n, len(text))
		}
	}
	if long != 1 {
		t.Errorf("%d long writes for one answer", long)
	}
}
