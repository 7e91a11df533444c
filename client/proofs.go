// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"

	"kindred/api"
	"kindred/compat/proofs"
)

// Proofs lists the proofs that are chosen.
func (c *Client) Proofs(ctx context.Context, of api.ProofFilter) ([]api.KeptProof, error) {
	var list []api.KeptProof
	err := pages(func(after string) (string, error) {
		q := from(after, false)
		for name, value := range map[string]string{"key": of.Key, "type": of.Type, "host": of.Host, "result": string(of.Result)} {
			if value != "" {
				q.Set(name, value)
			}
		}
		p, err := ask[api.Proofs](ctx, c, request{method: http.MethodGet, path: api.PathProofs, query: q})
		if err != nil {
			return "", err
		}
		list = append(list, p.Proofs...)
		return p.Next, nil
	})
	return list, err
}

// MissingProofs asks what proofs would settle all that devices wait for.
func (c *Client) MissingProofs(ctx context.Context) (*api.MissingProofs, error) {
	return ask[api.MissingProofs](ctx, c, request{method: http.MethodGet, path: api.PathMissing})
}

// AddProofs has proofs kept.
func (c *Client) AddProofs(ctx context.Context, f *proofs.File) error {
	return c.do(ctx, request{method: http.MethodPost, path: api.PathProofs, body: f})
}
