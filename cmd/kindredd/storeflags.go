// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"kindred/server/store"
)

const defaultData = "/var/lib/kindred/server"

// storeFlags say where the server keeps what it knows.
type storeFlags struct {
	dir                    string
	endpoints              []string
	prefix                 string
	ca, cert, key          string
	username, passwordFile string
}

func (f *storeFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.dir, "data-dir", defaultData, "keep everything in an etcd of its own below `DIR`")
	fs.StringSliceVar(&f.endpoints, "etcd-endpoints", nil, "keep everything in an existing etcd, at these `URLS`")
	fs.StringVar(&f.prefix, "etcd-prefix", store.DefaultPrefix, "where in etcd's keys everything is")
	fs.StringVar(&f.ca, "etcd-ca", "", "`FILE` with the CA of the existing etcd's certificates")
	fs.StringVar(&f.cert, "etcd-cert", "", "`FILE` with this server's certificate for it")
	fs.StringVar(&f.key, "etcd-key", "", "`FILE` with the certificate's key")
	fs.StringVar(&f.username, "etcd-user", "", "`NAME` of this server's user of the existing etcd")
	fs.StringVar(&f.passwordFile, "etcd-password-file", "", "`FILE` with the user's password")
}

// open opens the store that the flags name.
func (f *storeFlags) open(ctx context.Context, cmd *cobra.Command) (*store.Store, error) {
	if len(f.endpoints) == 0 {
		if f.ca != "" || f.cert != "" || f.key != "" || f.username != "" || f.passwordFile != "" {
			return nil, usage(cmd, errors.New("the flags of an existing etcd go with --etcd-endpoints"))
		}
		return store.Embedded{Dir: f.dir, Prefix: f.prefix}.Open(ctx)
	}
	if cmd.Flags().Changed("data-dir") {
		return nil, usage(cmd, errors.New("--data-dir and --etcd-endpoints exclude each other"))
	}
	e := store.Existing{Endpoints: f.endpoints, Prefix: f.prefix, Username: f.username}
	var err error
	if f.ca != "" || f.cert != "" || f.key != "" {
		if e.TLS, err = tlsFiles(f.ca, f.cert, f.key); err != nil {
			return nil, &exitError{exitInput, fmt.Errorf("etcd: %w", err)}
		}
	}
	if f.passwordFile != "" {
		data, err := os.ReadFile(f.passwordFile)
		if err != nil {
			return nil, &exitError{exitInput, fmt.Errorf("etcd: %w", err)}
		}
		e.Password = strings.TrimRight(string(data), "\n")
	}
	return e.Open(ctx)
}

// tlsFiles reads a CA and a certificate with its key, each where it is named.
func tlsFiles(ca, cert, key string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS13}
	if ca != "" {
		pool, err := readPool(ca)
		if err != nil {
			return nil, err
		}
		c.RootCAs = pool
	}
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", cert, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func readPool(name string) (*x509.CertPool, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s has no certificate in it", name)
	}
	return pool, nil
}
