// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"

	"kindred/api"
)

// CreateCanary orders that a transfer be proved. The same key makes one order;
// empty: a new one.
func (c *Client) CreateCanary(ctx context.Context, key string, r *api.CanaryRequest) (*api.Canary, error) {
	return ask[api.Canary](ctx, c, request{method: http.MethodPost, path: api.PathCanaries, header: once(key), body: r})
}

// Canaries lists canary orders, on request also those that are over.
func (c *Client) Canaries(ctx context.Context, all bool) ([]api.Canary, error) {
	var list []api.Canary
	err := pages(func(after string) (string, error) {
		p, err := ask[api.Canaries](ctx, c, request{method: http.MethodGet, path: api.PathCanaries, query: from(after, all)})
		if err != nil {
			return "", err
		}
		list = append(list, p.Canaries...)
		return p.Next, nil
	})
	return list, err
}

// Canary is one canary order.
func (c *Client) Canary(ctx context.Context, id string) (*api.Canary, error) {
	return ask[api.Canary](ctx, c, request{method: http.MethodGet, path: path(api.PathCanary, id)})
}

// CancelCanary ends a canary order. One that is over is as it was.
func (c *Client) CancelCanary(ctx context.Context, id string) (*api.Canary, error) {
	return ask[api.Canary](ctx, c, request{method: http.MethodDelete, path: path(api.PathCanary, id)})
}

// CanaryWord says what became of one end of a canary order.
func (c *Client) CanaryWord(ctx context.Context, host string, w *api.CanaryWord) error {
	return c.do(ctx, request{method: http.MethodPost, path: path(api.PathCanaryWord, host), body: w})
}
