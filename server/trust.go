// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"kindred/api"
	"kindred/server/store"
	"kindred/trust"
)

// records keeps what package trust wants kept.
type records struct{ Store }

func (r records) Get(ctx context.Context, key string) ([]byte, int64, error) {
	rec, err := r.Store.Get(ctx, key)
	switch {
	case err != nil:
		return nil, 0, err
	case rec == nil:
		return nil, 0, fmt.Errorf("record %s: %w", key, fs.ErrNotExist)
	}
	return rec.Value, rec.Revision, nil
}

func (r records) Put(ctx context.Context, key string, data []byte, revision int64) error {
	_, ok, err := r.Commit(ctx, store.Txn{If: []store.Guard{{Key: key, Revision: revision}}, Then: []store.Write{{Key: key, Value: data}}})
	if err == nil && !ok {
		err = trust.ErrChanged
	}
	return err
}

// desk is who signs, or a refusal where this server does not.
func (s *Server) desk() (*trust.Desk, error) {
	if s.config.SealKey == nil {
		return nil, api.NewProblem(api.NoAuthority, "")
	}
	return &trust.Desk{Records: records{s.store}, Key: s.config.SealKey}, nil
}

// authorityAge is how old what a server knows of the authority may be. Another
// server may have begun to replace it, and then it signs after days only.
const authorityAge = time.Minute

// Serving is what this server's listener with TLS needs: its own certificate
// comes from the cluster's authority, which is made when there is none. Reach
// are the names and addresses by which the server is called.
func (s *Server) Serving(ctx context.Context, name, cluster string, reach []string) (*trust.Serving, error) {
	desk, err := s.desk()
	if err != nil {
		return nil, err
	}
	known, err := desk.Begin(ctx, cluster, s.now())
	if err != nil {
		return nil, err
	}
	read := s.now()
	var mu sync.Mutex
	return &trust.Serving{
		Name: name, Reach: reach, Now: s.now, Check: s.revoked,
		Authority: func() (*trust.Authority, error) {
			mu.Lock()
			defer mu.Unlock()
			if s.now().Sub(read) < authorityAge {
				return known, nil
			}
			again, err := desk.Authority(ctx)
			if err != nil {
				s.log.Warn("the authority could not be read again", "error", err)
				return known, nil // what it was a minute ago
			}
			known, read = again, s.now()
			return known, nil
		},
	}, nil
}

// revoked refuses a certificate that this server has seen revoked.
func (s *Server) revoked(peer trust.Identity) error {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	return s.view.ended(peer)
}

// ended refuses a certificate that was revoked. The caller holds the lock.
func (v *view) ended(peer trust.Identity) error {
	for _, what := range []string{peer.Serial, peer.String()} {
		if r, ok := v.revoked[what]; ok && r.Ends(what, peer) {
			return &trust.RevokedError{Who: peer, Revocation: r}
		}
	}
	return nil
}

// revoke ends certificates, and returns when this server refuses them.
func (s *Server) revoke(ctx context.Context, desk *trust.Desk, what string, r trust.Revocation) error {
	if err := desk.Revoke(ctx, what, r); err != nil {
		return err
	}
	written, err := s.store.Get(ctx, store.Key(store.Cert, what))
	if err != nil {
		return problem(err)
	}
	if written == nil || !s.view.wait(ctx, written.Revision, requestWait) {
		return api.NewProblem(api.Unavailable, "%s is revoked, and this server has not seen it yet", what)
	}
	return nil
}

// signed gives a certificate, or the refusal of a request that cannot be.
func signed(name string, i *trust.Issued, err error) (*answer[*api.Joined], error) {
	switch {
	case err == nil:
		return &answer[*api.Joined]{&api.Joined{Name: name, Certificate: i.Certificate, CA: i.Authorities}}, nil
	case errors.Is(err, trust.ErrTokenUnknown), errors.Is(err, trust.ErrTokenExpired), errors.Is(err, trust.ErrTokenUsed):
		return nil, api.NewProblem(api.Unauthorized, "%v", err)
	case errors.Is(err, store.ErrUnavailable):
		return nil, problem(err)
	}
	return nil, api.NewProblem(api.BadRequest, "%v", err)
}

func (s *Server) registerTrust(a huma.API) {
	huma.Register(a, op("join", http.MethodPost, api.PathJoin, "An agent's first certificate, for a join token"), func(ctx context.Context, in *struct{ Body api.Join }) (*answer[*api.Joined], error) {
		desk, err := s.desk()
		if err != nil {
			return nil, err
		}
		i, err := desk.Join(ctx, in.Body.Token, in.Body.CSR, s.now())
		name := ""
		if t, err := trust.ParseToken(in.Body.Token); err == nil {
			name = api.AgentPrefix + t.Host
		}
		return signed(name, i, err)
	})
	huma.Register(a, op("rotate", http.MethodPost, api.PathRotate, "The next certificate of who asks"), func(ctx context.Context, in *struct{ Body api.Rotation }) (*answer[*api.Joined], error) {
		desk, err := s.desk()
		if err != nil {
			return nil, err
		}
		peer := who(ctx).peer
		if peer.Name == "" {
			return nil, api.NewProblem(api.Forbidden, "%s has no certificate that could be renewed", who(ctx).Name)
		}
		i, err := desk.Renew(ctx, peer, in.Body.CSR, s.now())
		return signed(peer.String(), i, err)
	})
	do(a, op("create-token", http.MethodPost, api.PathTokens, "A token with which one host's agent joins"), func(ctx context.Context, in *struct{ Body api.TokenRequest }) (*api.Token, error) {
		desk, err := s.desk()
		if err != nil {
			return nil, err
		}
		ttl := in.Body.TTL.Of()
		if ttl == 0 {
			ttl = trust.TokenLife
		}
		t, err := desk.CreateToken(ctx, in.Body.Host, who(ctx).Name, ttl, s.now())
		if err != nil {
			return nil, api.NewProblem(api.BadRequest, "%v", err)
		}
		return &api.Token{Host: t.Host, Token: t.String(), Expires: t.Expires}, nil
	})
	huma.Register(a, op("create-admin", http.MethodPost, api.PathAdmins, "An administrator's certificate"), func(ctx context.Context, in *struct{ Body api.AdminRequest }) (*answer[*api.Joined], error) {
		if err := admin(ctx); err != nil {
			return nil, err
		}
		desk, err := s.desk()
		if err != nil {
			return nil, err
		}
		i, err := desk.SignAdmin(ctx, in.Body.Name, in.Body.CSR, s.now())
		return signed(api.AdminPrefix+in.Body.Name, i, err)
	})
	do(a, op("revoke", http.MethodPost, api.PathRevoke, "End the certificates of a host or an administrator, or one by its serial number"), func(ctx context.Context, in *struct{ Body api.Revocation }) (*api.Revocation, error) {
		desk, err := s.desk()
		if err != nil {
			return nil, err
		}
		if in.Body.What == "" {
			return nil, api.NewProblem(api.BadRequest, "whose certificates are to end is not said")
		}
		r := trust.Revocation{At: s.now().UTC(), By: who(ctx).Name, Reason: in.Body.Reason}
		return &in.Body, s.revoke(ctx, desk, in.Body.What, r)
	})
	do(a, op("rotate-authority", http.MethodPost, api.PathAuthority, "Begin to replace what signs certificates"), func(ctx context.Context, _ *none) (*api.Authority, error) {
		desk, err := s.desk()
		if err != nil {
			return nil, err
		}
		next, err := desk.Rotate(ctx, s.now())
		if errors.Is(err, trust.ErrRotating) {
			return nil, api.NewProblem(api.WrongState, "%v", err)
		}
		if err != nil {
			return nil, err
		}
		return &api.Authority{Fingerprints: next.Fingerprints(s.now()), Next: next.SignsUntil(s.now())}, nil
	})
}
