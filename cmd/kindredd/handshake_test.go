// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"kindred/server"
)

// TestHandshakes: connections are served as those of any TLS listener, also by
// HTTP/2; one that says nothing keeps nobody waiting, one that speaks no TLS is
// told off, and nothing is left when the listener is closed.
func TestHandshakes(t *testing.T) {
	like := httptest.NewTLSServer(nil) // for its certificate
	defer like.Close()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := listenTLS(inner, &tls.Config{Certificates: like.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}})
	var said strings.Builder
	var mu sync.Mutex
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto, r.TLS != nil) }),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if got, want := reflect.TypeOf(c.(*tls.Conn).NetConn()), reflect.TypeOf(server.Gathering(nil)); got != want {
				t.Errorf("below TLS there is a %s, and not a %s, which long answers want", got, want)
			}
			return ctx
		},
		ErrorLog: log.New(writer(func(b []byte) { mu.Lock(); defer mu.Unlock(); said.Write(b) }), "", 0),
	}
	served := make(chan error)
	go func() { served <- s.Serve(l) }()
	silent, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	pool := x509.NewCertPool()
	pool.AddCert(like.Certificate())
	for _, two := range []bool{false, true} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "example.com"}, ForceAttemptHTTP2: two}
		resp, err := (&http.Client{Transport: transport}).Get("https://" + inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := map[bool]string{false: "HTTP/1.1true", true: "HTTP/2.0true"}[two]; err != nil || string(text) != want {
			t.Errorf("%q, %v; want %q", text, err, want)
		}
		transport.CloseIdleConnections()
	}
	odd, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer odd.Close()
	if _, err := odd.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(odd); err != nil { // until the server ends it
		t.Fatal(err)
	}
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) { // it says so after it ended it
		mu.Lock()
		text := said.String()
		mu.Unlock()
		if strings.Contains(text, "TLS handshake error") {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("of a client without TLS the server says %q", text)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener: %v", err)
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}
