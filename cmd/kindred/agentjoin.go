// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"

	"kindred/api"
	"kindred/client"
	"kindred/trust"
)

type joinOptions struct {
	servers     []string
	tokenFile   string
	credentials string
}

func newAgentJoin() *cobra.Command {
	opts := new(joinOptions)
	cmd := &cobra.Command{
		Use:   "join --token-file FILE",
		Short: "Get this host's certificate with a join token",
		Long: `Get the first certificate of this host's agent with a token that kindredd token
create made for this host. The server is checked by the token before anything is
sent. The private key is made here and does not leave this host.`,
		Example: `  kindredd token create --host web1 |
    ssh web1 kindred agent join --server https://fleet:7443 --token-file -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runJoin(cmd, opts) },
	}
	addServers(cmd, &opts.servers)
	cmd.Flags().StringVar(&opts.tokenFile, "token-file", "", "read the token from `FILE`; - is standard input")
	cmd.Flags().StringVar(&opts.credentials, "credentials", agentCredentials, "where they are written, `FILE`")
	return cmd
}

// readToken reads a token from a file; tokens on a command line would be seen
// by every process.
func (o *joinOptions) readToken(cmd *cobra.Command) (*trust.Token, error) {
	from := cmd.InOrStdin()
	if o.tokenFile != "-" {
		f, err := os.Open(o.tokenFile)
		if err != nil {
			return nil, &exitError{exitInput, fmt.Errorf("read the join token: %w", err)}
		}
		defer f.Close()
		from = f
	}
	line, err := bufio.NewReader(io.LimitReader(from, 64<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, &exitError{exitInput, fmt.Errorf("read the join token: %w", err)}
	}
	t, err := trust.ParseToken(line)
	if err != nil {
		return nil, &exitError{exitInput, err}
	}
	return t, nil
}

func runJoin(cmd *cobra.Command, opts *joinOptions) error {
	if opts.tokenFile == "" || len(opts.servers) == 0 {
		return usage(cmd, errors.New("--token-file and --server are needed"))
	}
	t, err := opts.readToken(cmd)
	if err != nil {
		return err
	}
	for _, server := range opts.servers {
		if _, err := overTLS(server); err != nil {
			return fmt.Errorf("join: %w", err)
		}
	}
	// The token would be used up for a certificate that is of no use here.
	if name, err := os.Hostname(); err == nil && name != t.Host {
		return &exitError{exitInput, fmt.Errorf("join: the token is for the host %s, and this host calls itself %s: kindredd token create --host %s", clean(t.Host), clean(name), clean(name))}
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
	defer cancel()
	csr, credentials, err := trust.NewRequest()
	if err != nil {
		return err
	}
	for _, server := range opts.servers {
		if err = joinAt(ctx, server, t, csr, credentials); err == nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if err := credentials.Write(opts.credentials); err != nil {
		return err
	}
	cmd.Printf("host %s joined; its certificate is good until %s and renews itself\n", clean(t.Host), credentials.Expires().Local().Format("2006-01-02 15:04"))
	return nil
}

// overTLS is the name of a server that is reached over TLS.
func overTLS(server string) (name string, err error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return "", fmt.Errorf("server %q is not https://NAME:PORT: a token is sent over TLS alone", server)
	}
	return u.Hostname(), nil
}

func joinAt(ctx context.Context, server string, t *trust.Token, csr string, c *trust.Credentials) error {
	name, err := overTLS(server)
	if err != nil {
		return err
	}
	one, err := client.New([]string{server}, trust.JoinTLS(t, name, time.Now))
	if err != nil {
		return err
	}
	defer one.Close()
	got, err := issued(one.Join(ctx, &api.Join{Token: t.String(), CSR: csr}))
	if err != nil {
		return err
	}
	return c.Take(got)
}
