// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"
)

// ownProfile writes what this process spends its time on until it is called, and
// all that it allocated, to files of a name.
func ownProfile(dir, name string) (end func() error, err error) {
	if dir == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	cpu, err := os.Create(filepath.Join(dir, name+"-cpu.prof"))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, errors.Join(err, cpu.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		allocs, err := os.Create(filepath.Join(dir, name+"-allocs.prof"))
		if err != nil {
			return errors.Join(err, cpu.Close())
		}
		return errors.Join(pprof.Lookup("allocs").WriteTo(allocs, 0), allocs.Close(), cpu.Close())
	}, nil
}

// profiles fetches what the server spends its time on, what it keeps and what it
// allocates meanwhile, where that was asked for.
func (r *run) profiles(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	if r.profile == "" {
		done <- nil
		return done
	}
	go func() {
		seconds := max(int(r.duration.Seconds()/3), 1)
		done <- errors.Join(
			os.MkdirAll(r.profile, 0o755),
			r.fetch(ctx, fmt.Sprintf("debug/pprof/profile?seconds=%d", seconds), "cpu.prof"),
			r.fetch(ctx, "metrics", "metrics.txt"),
			r.fetch(ctx, "debug/pprof/heap?gc=1", "heap.prof"),
			r.fetch(ctx, fmt.Sprintf("debug/pprof/allocs?seconds=%d", seconds), "allocs.prof"),
			r.fetch(ctx, "debug/pprof/goroutine", "goroutine.prof"),
		)
	}()
	return done
}

func (r *run) fetch(ctx context.Context, what, name string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.server.Plain+"/"+what, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		return fmt.Errorf("fetch a profile: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("fetch the profile %s: %s", what, resp.Status)
	}
	file, err := os.Create(filepath.Join(r.profile, name))
	if err != nil {
		return err
	}
	_, err = io.Copy(file, resp.Body)
	return errors.Join(err, file.Close())
}
