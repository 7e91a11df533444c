// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const guestPackage = "kindred/lab/guest"

// withInit completes a with the guest's first process, built from the source tree
// that the caller runs in. Go's own build cache makes this a fraction of a second
// when nothing changed, and always right when something did.
func withInit(ctx context.Context, cacheDir string, a *Artefacts) (*Artefacts, error) {
	work, err := os.MkdirTemp(cacheDir, workPrefix)
	if err != nil {
		return nil, fmt.Errorf("lab: building the guest's init: %w", err)
	}
	defer os.RemoveAll(work)
	tmp := filepath.Join(work, "init")
	if err := BuildStatic(ctx, guestPackage, tmp); err != nil {
		return nil, fmt.Errorf("lab: building the guest's init: %w", err)
	}
	sum, err := fileSum(tmp)
	if err != nil {
		return nil, fmt.Errorf("lab: building the guest's init: %w", err)
	}
	// Named by its contents: a running program may still be reading another one.
	a.Init = filepath.Join(cacheDir, initPrefix+sum)
	if err := os.Rename(tmp, a.Init); err != nil {
		return nil, fmt.Errorf("lab: keeping the guest's init: %w", err)
	}
	return a, forget(cacheDir, a.Init)
}

const initPrefix = "init-"

// forget removes inits of other builds that nobody can be about to boot any more.
func forget(cacheDir, keep string) error {
	old, err := filepath.Glob(filepath.Join(cacheDir, initPrefix+"*"))
	if err != nil {
		return err
	}
	for _, file := range old {
		info, err := os.Stat(file)
		if err != nil || file == keep || time.Since(info.ModTime()) < 24*time.Hour {
			continue
		}
		if err := os.Remove(file); err != nil {
			return fmt.Errorf("lab: removing an old init: %w", err)
		}
	}
	return nil
}

func fileSum(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8]), nil
}

// BuildStatic builds a program of this module so that it runs in a guest, which
// has no C library. It needs the go command and Kindred's source tree as the
// current directory or above it.
func BuildStatic(ctx context.Context, pkg, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s (inside Kindred's source tree?): %w: %s", pkg, err, strings.TrimSpace(string(said)))
	}
	return nil
}
