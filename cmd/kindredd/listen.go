// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"kindred/server"
)

const defaultSocket = "/run/kindred/server.sock"

// listenFlags say where the server listens.
type listenFlags struct {
	socket        string
	loopback      string
	address       string
	cert, key, ca string
	reach         []string
}

func (f *listenFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.socket, "socket", defaultSocket, "listen on a unix socket, `FILE`; empty: on none")
	fs.StringVar(&f.loopback, "listen-loopback", "", "listen on a loopback `ADDRESS` without TLS: everybody on this machine may do everything")
	fs.StringVar(&f.address, "listen", "", "listen on an `ADDRESS` with TLS")
	fs.StringSliceVar(&f.reach, "reach", nil, "`NAMES` and addresses by which this server is called, for its certificate (the host's name, and localhost)")
	fs.StringVar(&f.cert, "tls-cert", "", "`FILE` with the server's certificate, where it is not of the cluster's own authority")
	fs.StringVar(&f.key, "tls-key", "", "`FILE` with its key")
	fs.StringVar(&f.ca, "tls-ca", "", "`FILE` with the CA of agents' and administrators' certificates")
}

// listeners are where the server listens.
type listeners struct{ list []listener }

type listener struct {
	net.Listener
	name     string
	loopback bool
	own      bool // with a certificate of the cluster's authority
}

func (l *listeners) close() {
	for _, one := range l.list {
		one.Close() // closed already, or the program ends
	}
}

func (l *listeners) names() []string {
	var names []string
	for _, one := range l.list {
		names = append(names, one.name)
	}
	return names
}

// open listens everywhere, or nowhere and says why.
func (f *listenFlags) open(cmd *cobra.Command) (*listeners, error) {
	if given := f.cert != "" || f.key != "" || f.ca != ""; given && (f.address == "" || f.cert == "" || f.key == "" || f.ca == "") {
		return nil, usage(cmd, errors.New("--tls-cert, --tls-key and --tls-ca go together, with --listen"))
	}
	if len(f.reach) > 0 && !f.own() {
		return nil, usage(cmd, errors.New("--reach is for the cluster's own certificate, with --listen"))
	}
	if f.socket == "" && f.loopback == "" && f.address == "" {
		return nil, usage(cmd, errors.New("the server would listen nowhere"))
	}
	all := new(listeners)
	add := func(l net.Listener, err error, name string, loopback bool) error {
		if err != nil {
			all.close()
			return fmt.Errorf("listen on %s: %w", name, err)
		}
		all.list = append(all.list, listener{Listener: l, name: name, loopback: loopback})
		return nil
	}
	if f.socket != "" {
		l, err := listenUnix(f.socket)
		if err := add(l, err, "unix:"+f.socket, false); err != nil {
			return nil, err
		}
	}
	if f.loopback != "" {
		address, err := netip.ParseAddrPort(f.loopback)
		if err != nil || !address.Addr().IsLoopback() {
			all.close()
			return nil, usage(cmd, fmt.Errorf("--listen-loopback %s is no loopback address with a port, such as 127.0.0.1:7480", f.loopback))
		}
		l, err := net.Listen("tcp", f.loopback)
		name := f.loopback
		if err == nil {
			name = l.Addr().String()
		}
		if err := add(l, err, "http://"+name, true); err != nil {
			return nil, err
		}
	}
	if f.address != "" {
		l, err := f.listenTLS(cmd)
		if err != nil {
			all.close()
			return nil, err
		}
		all.list = append(all.list, listener{Listener: l, name: "https://" + l.Addr().String(), own: f.own()})
	}
	return all, nil
}

// own reports whether the listener's certificate is of the cluster's authority.
func (f *listenFlags) own() bool { return f.address != "" && f.cert == "" }

func (f *listenFlags) listenTLS(cmd *cobra.Command) (net.Listener, error) {
	var config *tls.Config
	if !f.own() {
		var err error
		if config, err = f.tls(); err != nil {
			return nil, &exitError{exitInput, err}
		}
	}
	l, err := net.Listen("tcp", f.address)
	if err != nil {
		return nil, fmt.Errorf("listen on https://%s: %w", f.address, err)
	}
	if config != nil {
		l = listenTLS(l, config)
	}
	return l, nil
}

// names are by what the server is called.
func (f *listenFlags) names() ([]string, error) {
	if len(f.reach) > 0 {
		return f.reach, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("the host's name, for the certificate: %w", err)
	}
	return []string{name, "localhost", "127.0.0.1", "::1"}, nil
}

// tls lets nobody in without a certificate of the CA.
func (f *listenFlags) tls() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", f.cert, err)
	}
	pool, err := readPool(f.ca)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, NextProtos: []string{"h2", "http/1.1"},
	}, nil
}

// listenUnix makes the socket. One that a server left which is no more is
// replaced, one that somebody answers on is not.
func listenUnix(name string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, err
	}
	if info, err := os.Lstat(name); err == nil && info.Mode().Type() == os.ModeSocket {
		if c, err := net.DialTimeout("unix", name, time.Second); err == nil {
			c.Close()
			return nil, errors.New("another server listens there")
		}
		if err := os.Remove(name); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", name)
	if err != nil {
		return nil, err
	}
	// Who may do what is decided by who is at the other end.
	if err := os.Chmod(name, 0o666); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// headers is how much of the headers of answers a connection may remember, in
// bytes: nothing, the least that can be said. Each agent has a connection for ever,
// and asks seldom: memory is worth more than bytes. Of requests it remembers what
// clients think that it does, for they begin before they are told; ours let it
// remember nothing.
const headers = 1

// goodbye is how long requests under way may take when the server stops.
const goodbye = 3 * time.Second

// serve answers on all listeners until the context ends.
func (l *listeners) serve(ctx context.Context, h http.Handler, own *tls.Config) error {
	var all sync.WaitGroup
	failed := make(chan error, len(l.list))
	var servers []*http.Server
	for _, one := range l.list {
		s := &http.Server{
			Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
			HTTP2:       &http.HTTP2Config{MaxEncoderHeaderTableSize: headers},
			BaseContext: func(net.Listener) context.Context { return ctx }, // streams end with the server
			ConnContext: server.ConnIdentity,
		}
		if one.loopback {
			s.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
				return server.WithIdentity(ctx, server.Identity{Name: "loopback", Admin: true})
			}
		}
		servers = append(servers, s)
		accept := one.Listener
		if one.own {
			accept = listenTLS(accept, own)
		}
		all.Go(func() {
			if err := s.Serve(accept); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("listen on %s: %w", one.name, err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	for _, s := range servers {
		if s.Shutdown(last) != nil {
			s.Close()
		}
	}
	all.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	return err
}
