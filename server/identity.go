// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"kindred/api"
	"kindred/trust"
)

// Identity is who asks.
type Identity struct {
	Name  string // as it is put on record
	Admin bool   // may do everything
	Host  string // an agent's host: what it may touch

	peer trust.Identity // by certificate
}

type identityKey struct{}

// WithIdentity puts who asks into a connection's context. What arrives without
// one is refused.
func WithIdentity(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// ConnIdentity is for [http.Server.ConnContext]. On a unix socket the kernel says
// who is at the other end: root is an administrator, and so is the user that the
// server runs as. A connection over TLS is told by its certificate, at once where
// its handshake is over; any other one is nobody's. One over TLS also gets what
// long answers need, where it is a [Gathering] one.
func ConnIdentity(ctx context.Context, c net.Conn) context.Context {
	switch c := c.(type) {
	case *tls.Conn:
		state := c.ConnectionState()
		if id, err := ofTLS(&state); err == nil {
			ctx = WithIdentity(ctx, id)
		}
		return withGathering(ctx, c)
	case *net.UnixConn:
		return unixIdentity(ctx, c)
	}
	return ctx
}

func unixIdentity(ctx context.Context, local *net.UnixConn) context.Context {
	raw, err := local.SyscallConn()
	if err != nil {
		return ctx
	}
	var peer *unix.Ucred
	err2 := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err != nil || err2 != nil {
		return ctx
	}
	id := Identity{Name: "uid:" + strconv.FormatUint(uint64(peer.Uid), 10)}
	id.Admin = peer.Uid == 0 || int(peer.Uid) == os.Geteuid()
	return WithIdentity(ctx, id)
}

// ofTLS is whose certificate a connection has. It was verified.
func ofTLS(state *tls.ConnectionState) (Identity, error) {
	if len(state.PeerCertificates) == 0 {
		return Identity{}, api.NewProblem(api.Unauthorized, "no certificate")
	}
	peer, err := trust.IdentityOf(state.PeerCertificates[0])
	switch {
	case err != nil:
		return Identity{}, api.NewProblem(api.Unauthorized, "%v", err)
	case peer.Role == trust.Host:
		return Identity{Name: peer.String(), Host: peer.Name, peer: peer}, nil
	case peer.Role == trust.Admin:
		return Identity{Name: peer.String(), Admin: true, peer: peer}, nil
	}
	return Identity{}, api.NewProblem(api.Unauthorized, "the certificate of %s is neither an agent's nor an administrator's", peer)
}

// identify says who sent a request: as it was found out with the connection, and
// if its certificate was not revoked since.
func (s *Server) identify(r *http.Request) (Identity, error) {
	id, ok := r.Context().Value(identityKey{}).(Identity)
	switch {
	case r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && (!ok || id.peer.Serial == ""):
		var err error
		if id, err = ofTLS(r.TLS); err != nil {
			return Identity{}, err
		}
	case !ok:
		return Identity{}, api.NewProblem(api.Unauthorized, "no certificate")
	}
	if id.peer.Serial == "" {
		return id, nil
	}
	if err := s.revoked(id.peer); err != nil {
		return Identity{}, api.NewProblem(api.Unauthorized, "%v", err)
	}
	return id, nil
}

// who is the identity of a request that was let in.
func who(ctx context.Context) Identity {
	id, _ := ctx.Value(identityKey{}).(Identity)
	return id
}

// mayTouch refuses agents of other hosts.
func mayTouch(ctx context.Context, host string) error {
	if id := who(ctx); !id.Admin && (id.Host == "" || id.Host != host) {
		return api.NewProblem(api.Forbidden, "%s may not speak for host %q", id.Name, host)
	}
	return nil
}

// admin refuses everybody else.
func admin(ctx context.Context) error {
	if id := who(ctx); !id.Admin {
		return api.NewProblem(api.Forbidden, "%s is no administrator", id.Name)
	}
	return nil
}
