// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"kindred/api"
	"kindred/client"
)

func newToken() *cobra.Command {
	var ask askFlags
	var host string
	var ttl time.Duration
	create := &cobra.Command{
		Use:   "create --host NAME",
		Short: "Make a token with which one host's agent joins",
		Long: `Make a token with which the agent of one host gets its first certificate. It is
good once, for a short time, and for that host alone. It names the cluster's
authority too: the agent checks the server by it before it sends anything.

The token is a secret. It is printed, and nothing else is: kindred agent join
reads it from standard input.`,
		Example: `  kindredd token create --host web1 |
    ssh web1 kindred agent join --server https://fleet:7443 --token-file -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if host == "" {
				return usage(cmd, errors.New("--host is missing: whose agent is to join"))
			}
			return ask.ask(cmd, func(ctx context.Context, c *client.Client) error {
				t, err := c.CreateToken(ctx, &api.TokenRequest{Host: host, TTL: api.Duration(ttl)})
				if err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), t.Token)
				return nil
			})
		},
	}
	ask.add(create)
	create.Flags().StringVar(&host, "host", "", "the `NAME` of the host, as it calls itself")
	create.Flags().DurationVar(&ttl, "ttl", 0, "how long it is good (1h)")
	return group("token", "Tokens with which hosts join", create)
}
