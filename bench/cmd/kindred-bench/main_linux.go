// SPDX-License-Identifier: Apache-2.0

// Command kindred-bench compares Kindred with mdevctl, as whole processes on
// synthetic trees, and Kindred's reading with a bare loop over the same files,
// in one run. It prints Markdown tables.
//
// It needs root (for a private mount namespace), mdevctl and a Go toolchain;
// run it in the module's directory on an otherwise idle machine:
//
//	go run ./bench/cmd/kindred-bench
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"kindred/bench/private"
	"kindred/bench/synth"
)

func main() {
	pairs := flag.Int("pairs", 31, "how many `PAIRS` of runs to time for each row")
	kindred := flag.String("kindred", "", "the kindred `PROGRAM` to measure; built from this module when empty")
	mdevctl := flag.String("mdevctl", "mdevctl", "the mdevctl `PROGRAM` to compare with")
	newer := flag.String("newer", "", "the `COMMAND` of an mdevctl since 1.3.0, with blanks between its words, to compare with when a callout is installed")
	flag.Parse()
	if err := start(*pairs, *kindred, *mdevctl, strings.Fields(*newer)); err != nil {
		fmt.Fprintln(os.Stderr, "kindred-bench:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func start(pairs int, kindred, mdevctl string, newer []string) error {
	if pairs < 1 {
		return errors.New("-pairs must be at least 1")
	}
	peer, err := exec.LookPath(mdevctl)
	if err != nil {
		return fmt.Errorf("mdevctl is needed to compare with (Debian's package mdevctl): %w", err)
	}
	if !private.Inside() {
		code, err := private.Run()
		if err != nil {
			return err
		}
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := synth.TempDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// Programs are where they would be installed, on a disk: from memory one begins
	// 0.5 ms later, in pages of which none is larger than the least.
	installed, err := os.MkdirTemp("/var/tmp", "kindred-bench-")
	if err != nil {
		return fmt.Errorf("make a directory for the program: %w", err)
	}
	defer os.RemoveAll(installed)
	if kindred == "" {
		kindred = filepath.Join(installed, "kindred")
		if err := build(ctx, kindred); err != nil {
			return err
		}
	} else if kindred, err = filepath.Abs(kindred); err != nil {
		return fmt.Errorf("find the program: %w", err)
	}
	asMdevctl := filepath.Join(installed, "mdevctl")
	if err := os.Symlink(kindred, asMdevctl); err != nil {
		return fmt.Errorf("call kindred by mdevctl's name: %w", err)
	}
	return measure(ctx, dir, programs{kindred, peer, asMdevctl, newer}, pairs)
}

// build makes the program as it is released, and installs it, which is to copy it,
// as the other program was: the system keeps in single pages what a linker wrote, by
// mapping the file, and a program begins 0.4 ms later than from a file that was written.
func build(ctx context.Context, to string) error {
	linked := to + ".linked"
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", linked, "kindred/cmd/kindred")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build kindred (run in the module's directory): %w: %s", err, strings.TrimSpace(string(out)))
	}
	if out, err := exec.CommandContext(ctx, "install", "-m", "755", linked, to).CombinedOutput(); err != nil {
		return fmt.Errorf("install kindred: %w: %s", err, strings.TrimSpace(string(out)))
	}
	if err := os.Remove(linked); err != nil {
		return fmt.Errorf("remove what was linked: %w", err)
	}
	syscall.Sync() // or the system writes for half a minute while others are timed
	return nil
}
