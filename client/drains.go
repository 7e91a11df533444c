// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"kindred/api"
)

// StartDrain has hosts emptied. The same key starts one drain; empty: a new one.
func (c *Client) StartDrain(ctx context.Context, key string, r *api.DrainOrder) (*api.Drain, error) {
	return ask[api.Drain](ctx, c, request{method: http.MethodPost, path: api.PathDrains, header: once(key), body: r})
}

// Drains lists drains, on request also those that are over, and the revision
// after which events are news.
func (c *Client) Drains(ctx context.Context, all bool) (list []api.Drain, revision int64, err error) {
	err = pages(func(after string) (string, error) {
		p, err := ask[api.Drains](ctx, c, request{method: http.MethodGet, path: api.PathDrains, query: from(after, all)})
		if err != nil {
			return "", err
		}
		if revision == 0 {
			revision = p.Revision
		}
		list = append(list, p.Drains...)
		return p.Next, nil
	})
	return list, revision, err
}

// Drain is one drain, on request with all of its owners.
func (c *Client) Drain(ctx context.Context, id string, owners bool) (*api.DrainDetail, error) {
	q := url.Values{"owners": {strconv.FormatBool(owners)}}
	return ask[api.DrainDetail](ctx, c, request{method: http.MethodGet, path: path(api.PathDrainOne, id), query: q})
}

// PauseDrain begins no more moves, ResumeDrain goes on.
func (c *Client) PauseDrain(ctx context.Context, id string) (*api.Drain, error) {
	return ask[api.Drain](ctx, c, request{method: http.MethodPost, path: path(api.PathPause, id)})
}

func (c *Client) ResumeDrain(ctx context.Context, id string) (*api.Drain, error) {
	return ask[api.Drain](ctx, c, request{method: http.MethodPost, path: path(api.PathResume, id)})
}

// CancelDrain begins no more moves, for good.
func (c *Client) CancelDrain(ctx context.Context, id string, r *api.DrainCancel) (*api.Drain, error) {
	return ask[api.Drain](ctx, c, request{method: http.MethodPost, path: path(api.PathCancel, id), body: r})
}

// HandOverAt takes the prepared devices of a migration that still has a
// revision: of several that try, one does.
func (c *Client) HandOverAt(ctx context.Context, id string, revision int64) (*api.Migration, error) {
	header := http.Header{api.HeaderMatch: {strconv.FormatInt(revision, 10)}}
	return ask[api.Migration](ctx, c, request{method: http.MethodPost, path: path(api.PathHandOver, id), header: header})
}
