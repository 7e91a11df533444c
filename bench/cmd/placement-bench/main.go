// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command placement-bench asks OpenStack's Placement and a fleet server the same
// questions about the same fleets, over HTTP in one run, and compares the times:
//
//	go run ./bench/cmd/placement-bench
//
// Both are started for it on loopback ports and ended after it; as root on Debian
// it installs the packages that are missing. With -write it replaces its section
// in a page of the documentation, and the drawing beside that.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"kindred/bench/page"
	"kindred/bench/placement"
	"kindred/bench/plot"
	"kindred/bench/serving"
	"kindred/bench/synth"
)

func main() {
	limit := flag.Int("limit", 100, "how many `CANDIDATES` both are asked for")
	file := flag.String("write", "", "write the result to a `PAGE` of the documentation")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, *limit, *file); err != nil {
		fmt.Fprintln(os.Stderr, "placement-bench:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func start(ctx context.Context, limit int, file string) (err error) {
	if limit < 1 {
		return errors.New("-limit is at least 1")
	}
	if err := placement.Install(ctx); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kindred-placement-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r := &run{dir: dir, limit: limit}
	if err := errors.Join(serving.Build(ctx, dir), placement.Prepare(ctx, r.empty())); err != nil {
		return err
	}
	if err := r.all(ctx); err != nil {
		return err
	}
	text := fmt.Sprintf("%s Placement %s (SQLite, gunicorn), both asked for %d candidates.\n\n%s",
		synth.Machine(), placement.Version(ctx), limit, r.table())
	fmt.Print(text)
	if file == "" {
		return nil
	}
	drawing := filepath.Join(filepath.Dir(file), "placement.svg")
	if err := os.WriteFile(drawing, []byte(plot.Draw("ms", r.charts())), 0o644); err != nil {
		return err
	}
	return page.Replace(file, "placement-bench", text+"\n![How the time to an answer grows](placement.svg)\n")
}
