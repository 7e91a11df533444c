// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"kindred/api"
	"kindred/fleet"
	"kindred/inventory"
)

// Hosts lists every host, page by page.
func (c *Client) Hosts(ctx context.Context) ([]api.Host, error) {
	var all []api.Host
	err := pages(func(after string) (string, error) {
		p, err := ask[api.Hosts](ctx, c, request{method: http.MethodGet, path: api.PathHosts, query: from(after, false)})
		if err != nil {
			return "", err
		}
		all = append(all, p.Hosts...)
		return p.Next, nil
	})
	return all, err
}

// pages reads one page after the other.
func pages(read func(after string) (next string, err error)) error {
	for after := ""; ; {
		next, err := read(after)
		if err != nil || next == "" {
			return err
		}
		after = next
	}
}

func from(after string, all bool) url.Values {
	q := url.Values{"limit": {strconv.Itoa(api.MaxPage)}}
	if after != "" {
		q.Set("after", after)
	}
	if all {
		q.Set("all", "true")
	}
	return q
}

// Host is one host with its inventory.
func (c *Client) Host(ctx context.Context, name string) (*api.HostDetail, error) {
	return ask[api.HostDetail](ctx, c, request{method: http.MethodGet, path: path(api.PathHost, name)})
}

// Forget deletes a host that is no more.
func (c *Client) Forget(ctx context.Context, name string) error {
	return c.do(ctx, request{method: http.MethodDelete, path: path(api.PathHost, name)})
}

// Lost says that a silent host is gone for good: nothing waits for it any more.
func (c *Client) Lost(ctx context.Context, name string) error {
	return c.do(ctx, request{method: http.MethodPost, path: path(api.PathLost, name)})
}

// Report tells a host's report; PutStatic what it refers to, where the server asks
// for it by [api.NeedStatic]; Alive that nothing changed.
func (c *Client) Report(ctx context.Context, host string, r *api.Report) (*api.ReportAnswer, error) {
	return ask[api.ReportAnswer](ctx, c, request{method: http.MethodPut, path: path(api.PathReport, host), body: r, gzip: true})
}

// PutStatic sends the static part of an inventory.
func (c *Client) PutStatic(ctx context.Context, hash string, static *inventory.Inventory) error {
	return c.do(ctx, request{method: http.MethodPut, path: path(api.PathStatic, hash), body: static, gzip: true})
}

// Alive says that a host's report stands.
func (c *Client) Alive(ctx context.Context, host string, a *api.Alive) (*api.ReportAnswer, error) {
	return ask[api.ReportAnswer](ctx, c, request{method: http.MethodPost, path: path(api.PathAlive, host), body: a})
}

// Status tells what became of a host's assignments.
func (c *Client) Status(ctx context.Context, host string, r *api.StatusReport) error {
	return c.do(ctx, request{method: http.MethodPost, path: path(api.PathStatus, host), body: r})
}

// Targets asks where a device can go.
func (c *Client) Targets(ctx context.Context, r *api.TargetsRequest) (*fleet.Targets, error) {
	return ask[fleet.Targets](ctx, c, request{method: http.MethodPost, path: api.PathTargets, body: r})
}

// Joint asks where all devices of one owner can go together.
func (c *Client) Joint(ctx context.Context, r *api.JointRequest) (*fleet.Joint, error) {
	return ask[fleet.Joint](ctx, c, request{method: http.MethodPost, path: api.PathJoint, body: r})
}

// Matrix asks which hosts can send to which.
func (c *Client) Matrix(ctx context.Context) (*fleet.Matrix, error) {
	return ask[fleet.Matrix](ctx, c, request{method: http.MethodGet, path: api.PathMatrix})
}

// Reach asks how far all devices reach.
func (c *Client) Reach(ctx context.Context, r *api.ReachRequest) (*fleet.Reach, error) {
	return ask[fleet.Reach](ctx, c, request{method: http.MethodPost, path: api.PathReach, body: r})
}

// Choices asks which type keeps a new device most movable.
func (c *Client) Choices(ctx context.Context) (*fleet.Choices, error) {
	return ask[fleet.Choices](ctx, c, request{method: http.MethodGet, path: api.PathChoices})
}

// WhatIf asks whom a change would strand.
func (c *Client) WhatIf(ctx context.Context, r *api.WhatIfRequest) (*fleet.WhatIf, error) {
	return ask[fleet.WhatIf](ctx, c, request{method: http.MethodPost, path: api.PathWhatIf, body: r})
}

// PlanDrain asks for a plan that empties some hosts.
func (c *Client) PlanDrain(ctx context.Context, r *api.DrainRequest) (*fleet.Plan, error) {
	return ask[fleet.Plan](ctx, c, request{method: http.MethodPost, path: api.PathDrain, body: r})
}

// PlanRollout asks for a plan that empties hosts in turns.
func (c *Client) PlanRollout(ctx context.Context, r *api.RolloutRequest) (*fleet.Rollout, error) {
	return ask[fleet.Rollout](ctx, c, request{method: http.MethodPost, path: api.PathRollout, body: r})
}

// Health asks how the server is.
func (c *Client) Health(ctx context.Context) (*api.Health, error) {
	return ask[api.Health](ctx, c, request{method: http.MethodGet, path: api.PathHealth})
}

// CreateClaim holds room. The same key makes one claim; empty: a new one.
func (c *Client) CreateClaim(ctx context.Context, key string, r *api.ClaimRequest) (*api.Claim, error) {
	return ask[api.Claim](ctx, c, request{method: http.MethodPost, path: api.PathClaims, header: once(key), body: r})
}

// Claims lists claims, on request also those that ended.
func (c *Client) Claims(ctx context.Context, all bool) ([]api.Claim, error) {
	var list []api.Claim
	err := pages(func(after string) (string, error) {
		p, err := ask[api.Claims](ctx, c, request{method: http.MethodGet, path: api.PathClaims, query: from(after, all)})
		if err != nil {
			return "", err
		}
		list = append(list, p.Claims...)
		return p.Next, nil
	})
	return list, err
}

// Claim is one claim.
func (c *Client) Claim(ctx context.Context, id string) (*api.Claim, error) {
	return ask[api.Claim](ctx, c, request{method: http.MethodGet, path: path(api.PathClaim, id)})
}

// Renew moves a claim's deadline.
func (c *Client) Renew(ctx context.Context, id string, r *api.Renewal) (*api.Claim, error) {
	return ask[api.Claim](ctx, c, request{method: http.MethodPost, path: path(api.PathRenew, id), body: r})
}

// Release gives a claim's room back.
func (c *Client) Release(ctx context.Context, id string) (*api.Claim, error) {
	return ask[api.Claim](ctx, c, request{method: http.MethodDelete, path: path(api.PathClaim, id)})
}

// CreateMigration begins a migration. The same key begins one; empty: a new one.
func (c *Client) CreateMigration(ctx context.Context, key string, r *api.MigrationRequest) (*api.Migration, error) {
	return ask[api.Migration](ctx, c, request{method: http.MethodPost, path: api.PathMigrations, header: once(key), body: r})
}

// Migrations lists migrations, on request also those that are over.
func (c *Client) Migrations(ctx context.Context, all bool) ([]api.Migration, error) {
	var list []api.Migration
	err := pages(func(after string) (string, error) {
		p, err := ask[api.Migrations](ctx, c, request{method: http.MethodGet, path: api.PathMigrations, query: from(after, all)})
		if err != nil {
			return "", err
		}
		list = append(list, p.Migrations...)
		return p.Next, nil
	})
	return list, err
}

// Migration is one migration.
func (c *Client) Migration(ctx context.Context, id string) (*api.Migration, error) {
	return ask[api.Migration](ctx, c, request{method: http.MethodGet, path: path(api.PathMigration, id)})
}

// HandOver takes the prepared devices.
func (c *Client) HandOver(ctx context.Context, id string) (*api.Migration, error) {
	return ask[api.Migration](ctx, c, request{method: http.MethodPost, path: path(api.PathHandOver, id)})
}

// Complete says that the VM runs on the target, with all its devices' state.
func (c *Client) Complete(ctx context.Context, id string) (*api.Migration, error) {
	return c.CompleteWith(ctx, id, nil)
}

// CompleteWith says that the VM runs on the target, and what else is known.
func (c *Client) CompleteWith(ctx context.Context, id string, with *api.Completion) (*api.Migration, error) {
	r := request{method: http.MethodPost, path: path(api.PathComplete, id)}
	if with != nil {
		r.body = with
	}
	return ask[api.Migration](ctx, c, r)
}

// Abort says that the VM stays on the source.
func (c *Client) Abort(ctx context.Context, id string, a *api.Abort) (*api.Migration, error) {
	return ask[api.Migration](ctx, c, request{method: http.MethodPost, path: path(api.PathAbort, id), body: a})
}
