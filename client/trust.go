// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"

	"kindred/api"
)

// Join asks for an agent's first certificate. The connection is to be one that
// checks the server by the token.
func (c *Client) Join(ctx context.Context, j *api.Join) (*api.Joined, error) {
	return ask[api.Joined](ctx, c, request{method: http.MethodPost, path: api.PathJoin, body: j})
}

// Rotate asks for the next certificate of who asks.
func (c *Client) Rotate(ctx context.Context, r *api.Rotation) (*api.Joined, error) {
	return ask[api.Joined](ctx, c, request{method: http.MethodPost, path: api.PathRotate, body: r})
}

// CreateToken makes a token with which a host's agent joins.
func (c *Client) CreateToken(ctx context.Context, r *api.TokenRequest) (*api.Token, error) {
	return ask[api.Token](ctx, c, request{method: http.MethodPost, path: api.PathTokens, body: r})
}

// CreateAdmin has an administrator's certificate signed.
func (c *Client) CreateAdmin(ctx context.Context, r *api.AdminRequest) (*api.Joined, error) {
	return ask[api.Joined](ctx, c, request{method: http.MethodPost, path: api.PathAdmins, body: r})
}

// Revoke ends certificates.
func (c *Client) Revoke(ctx context.Context, r *api.Revocation) error {
	return c.do(ctx, request{method: http.MethodPost, path: api.PathRevoke, body: r})
}

// RotateAuthority begins to replace what signs certificates.
func (c *Client) RotateAuthority(ctx context.Context) (*api.Authority, error) {
	return ask[api.Authority](ctx, c, request{method: http.MethodPost, path: api.PathAuthority})
}
