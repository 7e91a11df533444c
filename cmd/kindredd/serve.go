// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"kindred/compat"
	"kindred/internal/service"
	"kindred/prove"
	"kindred/server"
)

type serveOptions struct {
	store    storeFlags
	listen   listenFlags
	trust    trustFlags
	catalogs string
	keys     string
	ttl      time.Duration
	interval time.Duration
	timeout  time.Duration
	verbose  bool
}

func newServe() *cobra.Command {
	opts := new(serveOptions)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server until it is told to stop",
		Long: `Run the server until it is told to stop (Ctrl-C, SIGTERM).

It listens on a unix socket, where root and the user that it runs as may do
everything. Beyond the machine it listens with TLS alone, and lets nobody in
without a certificate: of an agent (CN host:NAME), for its own host, or of an
administrator (CN admin:NAME). Plain HTTP is for the loopback address, on which
everybody on the machine is an administrator.

With --listen the server has an authority of its own, which signs the agents'
and the administrators' certificates and its own. It is made at the first start;
its keys are stored sealed with the key in --seal-key, a file that is made too
and of which a copy belongs into a safe: a backup of the store does not have it.`,
		Example: `  kindredd serve
  kindredd serve --data-dir ./data --socket ./kindred.sock
  kindredd serve --data-dir ./data --socket ./kindred.sock --listen-loopback 127.0.0.1:7480
  kindredd serve --listen :7443 --reach fleet.example.org
  kindredd serve --listen :7443 --tls-cert server.pem --tls-key server.key --tls-ca ca.pem`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServe(cmd.Context(), cmd, opts) },
	}
	opts.store.add(cmd)
	opts.listen.add(cmd)
	opts.trust.add(cmd)
	fs := cmd.Flags()
	fs.StringVar(&opts.catalogs, "catalogs", "/etc/kindred/catalog.d", "the site's catalogs, `DIR`/*.yaml")
	fs.StringVar(&opts.keys, "proof-keys", prove.DefaultStore().Site, "keys whose proofs are taken, `DIR`/*.pub; it is read whenever proofs come")
	fs.DurationVar(&opts.ttl, "claim-ttl", 0, "how long a claim holds room unless asked otherwise (10m)")
	fs.DurationVar(&opts.interval, "interval", 0, "how often an agent is to be heard (10s)")
	fs.DurationVar(&opts.timeout, "timeout", 0, "after how long a host is taken for silent (35s)")
	fs.BoolVar(&opts.verbose, "verbose", false, "log every step of every migration")
	return cmd
}

func runServe(ctx context.Context, cmd *cobra.Command, opts *serveOptions) error {
	if opts.ttl < 0 || opts.interval < 0 || opts.timeout < 0 {
		return usage(cmd, errors.New("a time span is negative"))
	}
	site, err := readSite(opts.catalogs)
	if err != nil {
		return &exitError{exitInput, err}
	}
	trusted := prove.DefaultStore()
	trusted.Site = opts.keys
	if _, err := trusted.Trusted(); err != nil {
		return &exitError{exitInput, err}
	}
	level := slog.LevelWarn
	if opts.verbose {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
	key, err := opts.trust.key(cmd, opts.listen.own())
	if err != nil {
		return err
	}
	listeners, err := opts.listen.open(cmd)
	if err != nil {
		return err
	}
	defer listeners.close()
	kept, err := opts.store.open(ctx, cmd)
	if err != nil {
		return err
	}
	processors := useProcessors()
	s := server.New(server.Config{
		Store: kept, Catalogs: site, ProofKeys: trusted.Trusted, Log: log, Version: ownVersion(), SealKey: key,
		TTL: opts.ttl, Interval: opts.interval, Timeout: opts.timeout, LongQuestions: processors,
	})
	own, err := opts.trust.config(ctx, s, &opts.listen)
	if err != nil {
		return errors.Join(err, kept.Close())
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var all sync.WaitGroup
	all.Go(func() { collectEarly(ctx) })
	all.Go(func() {
		err := s.Run(ctx, func() {
			all.Go(func() { stop(listeners.serve(ctx, s.Handler(), own)) })
			for _, name := range listeners.names() {
				fmt.Fprintln(cmd.ErrOrStderr(), "kindredd: listening on "+name)
			}
			all.Go(func() { attend(ctx, service.Of(os.Getenv), s, log) })
		})
		stop(err)
	})
	all.Wait()
	cause := context.Cause(ctx)
	if errors.Is(cause, context.Canceled) {
		cause = nil // it was told to
	}
	return errors.Join(cause, kept.Close())
}

// ownVersion is what this program was built from.
func ownVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			version += " " + s.Value[:min(12, len(s.Value))]
		}
	}
	return version
}

// readSite reads a directory of catalogs; one that is not there has none.
func readSite(dir string) (*compat.Catalogs, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("catalogs: %w", err)
	}
	var site []*compat.Catalog
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != ".yaml" && ext != ".yml" {
			continue
		}
		name := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("catalogs: %w", err)
		}
		c, err := compat.ParseCatalog(name, data)
		if err != nil {
			return nil, err
		}
		site = append(site, c)
	}
	return compat.NewCatalogs(compat.BuiltIn(), site)
}
