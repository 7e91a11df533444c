// SPDX-License-Identifier: Apache-2.0

package hosts

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"kindred/api"
	"kindred/client"
	"kindred/trust"
)

// Join gets a host's agent its certificate: an administrator makes a token, and
// the host joins with it at an address (https://HOST:PORT).
func Join(ctx context.Context, admin *client.Client, address, host string) (*trust.Credentials, error) {
	failed := func(err error) (*trust.Credentials, error) { return nil, fmt.Errorf("join %s: %w", host, err) }
	u, err := url.Parse(address)
	if err != nil {
		return failed(err)
	}
	made, err := admin.CreateToken(ctx, &api.TokenRequest{Host: host})
	if err != nil {
		return failed(err)
	}
	token, err := trust.ParseToken(made.Token)
	if err != nil {
		return failed(err)
	}
	csr, c, err := trust.NewRequest()
	if err != nil {
		return failed(err)
	}
	door, err := client.New([]string{address}, trust.JoinTLS(token, u.Hostname(), time.Now))
	if err != nil {
		return failed(err)
	}
	defer door.Close()
	j, err := door.Join(ctx, &api.Join{Token: made.Token, CSR: csr})
	if err != nil {
		return failed(err)
	}
	if err := c.Take(&trust.Issued{Certificate: j.Certificate, Authorities: j.CA}); err != nil {
		return failed(err)
	}
	return c, nil
}
