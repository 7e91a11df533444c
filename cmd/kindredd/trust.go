// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"kindred/api"
	"kindred/client"
	"kindred/server"
	"kindred/trust"
)

const defaultSealKey = "/etc/kindred/seal.key"

// trustFlags say what the server signs with.
type trustFlags struct {
	sealKey string
	cluster string
}

func (f *trustFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.sealKey, "seal-key", defaultSealKey, "`FILE` with the key that seals the authority; made at the first start")
	fs.StringVar(&f.cluster, "cluster", "kindred", "the cluster's `NAME`, for its certificates, at the first start")
}

// key is the seal key, where the server signs certificates: when it listens with
// its own, or a key is named.
func (f *trustFlags) key(cmd *cobra.Command, own bool) (*trust.SealKey, error) {
	if !own && !cmd.Flags().Changed("seal-key") {
		return nil, nil
	}
	key, made, err := trust.OpenSealKey(f.sealKey, true)
	if err != nil {
		return nil, &exitError{exitInput, err}
	}
	if made {
		fmt.Fprintf(cmd.ErrOrStderr(), "kindredd: made the seal key %s: keep a copy of it apart from backups of the store\n", f.sealKey)
	}
	return key, nil
}

// config is the TLS side of the server's own listener, nil without one.
func (f *trustFlags) config(ctx context.Context, s *server.Server, listen *listenFlags) (*tls.Config, error) {
	if !listen.own() {
		return nil, nil
	}
	reach, err := listen.names()
	if err != nil {
		return nil, err
	}
	serving, err := s.Serving(ctx, f.cluster, f.cluster, reach)
	if err != nil {
		return nil, err
	}
	return trust.ServerTLS(serving), nil
}

// askFlags say which server is asked, by those who administer it.
type askFlags struct{ server string }

func (f *askFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.server, "server", "unix:"+defaultSocket, "`ADDRESS` of the server: unix:FILE, or http:// on the loopback address")
}

func (f *askFlags) ask(cmd *cobra.Command, do func(context.Context, *client.Client) error) error {
	if !strings.HasPrefix(f.server, "unix:") && !strings.HasPrefix(f.server, "http://") {
		return usage(cmd, errors.New("--server is unix:FILE or http://ADDRESS: this is done on the server's machine"))
	}
	c, err := client.New([]string{f.server}, nil)
	if err != nil {
		return usage(cmd, err)
	}
	defer c.Close()
	return do(cmd.Context(), c)
}

// group is a command that has others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(subs...)
	return cmd
}

func newCert() *cobra.Command {
	var ask askFlags
	var reason string
	revoke := &cobra.Command{
		Use:   "revoke host:NAME|admin:NAME|SERIAL",
		Short: "End the certificates of a host or an administrator, or one",
		Long: `End all certificates of a host or an administrator that were issued until now,
or one certificate by its serial number (hexadecimal). Connections that are open
are refused with their next request. A host may join again with a new token.`,
		Example: `  kindredd cert revoke host:web1 --reason sold
  kindredd cert revoke admin:eve`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask.ask(cmd, func(ctx context.Context, c *client.Client) error {
				return c.Revoke(ctx, &api.Revocation{What: args[0], Reason: reason})
			})
		},
	}
	ask.add(revoke)
	revoke.Flags().StringVar(&reason, "reason", "", "why, `TEXT` that is shown to who is refused")
	return group("cert", "Certificates of agents and administrators", revoke)
}

func newAuthority() *cobra.Command {
	var ask askFlags
	rotate := &cobra.Command{
		Use:   "rotate",
		Short: "Begin to replace what signs certificates",
		Long: `Make a new authority. It is trusted from now on and signs after the lifetime of
a certificate (30 days), when every agent has renewed once and knows it. The old
one is trusted for as long again, and then forgotten. Nothing has to be restarted.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask.ask(cmd, func(ctx context.Context, c *client.Client) error {
				a, err := c.RotateAuthority(ctx)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "a new authority signs from %s on\n", a.Next.Local().Format("2006-01-02 15:04"))
				return nil
			})
		},
	}
	ask.add(rotate)
	return group("authority", "What signs certificates", rotate)
}

func newAdmin() *cobra.Command {
	var ask askFlags
	var file string
	create := &cobra.Command{
		Use:   "create NAME",
		Short: "Make credentials with which a person or a program administers the fleet",
		Long: `Make a private key and a certificate for it, which names its bearer an
administrator, in one file that only its owner may read. They are good for 30
days. The key is made here and is sent nowhere.`,
		Example: `  kindredd admin create alice --file alice.pem`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				file = args[0] + ".pem"
			}
			return ask.ask(cmd, func(ctx context.Context, c *client.Client) error { return createAdmin(ctx, cmd, c, args[0], file) })
		},
	}
	ask.add(create)
	create.Flags().StringVar(&file, "file", "", "write `FILE` (NAME.pem)")
	return group("admin", "Administrators", create)
}

func createAdmin(ctx context.Context, cmd *cobra.Command, c *client.Client, name, file string) error {
	if err := trust.CheckName(name); err != nil {
		return usage(cmd, err)
	}
	if _, err := os.Lstat(file); err == nil {
		return &exitError{exitInput, fmt.Errorf("%s is there already: name another with --file", file)}
	}
	csr, credentials, err := trust.NewRequest()
	if err != nil {
		return err
	}
	joined, err := c.CreateAdmin(ctx, &api.AdminRequest{Name: name, CSR: csr})
	if err != nil {
		return err
	}
	if err := credentials.Take(&trust.Issued{Certificate: joined.Certificate, Authorities: joined.CA}); err != nil {
		return err
	}
	if err := credentials.Write(file); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s until %s, in %s\n", joined.Name, credentials.Expires().Local().Format("2006-01-02 15:04"), file)
	return nil
}
