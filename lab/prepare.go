// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Artefacts is everything a guest is made of, on disk, complete.
type Artefacts struct {
	Dir            string `json:"-"`              // the cache entry
	Release        string `json:"release"`        // as uname -r in a guest
	PackageVersion string `json:"packageVersion"` // of the Debian packages the kernel is from
	Recipe         string `json:"recipe"`         // hash of how it was built
	Init           string `json:"-"`              // the guest's first process
	Driver         string `json:"-"`              // the directory of our own driver's modules
}

const manifest = "manifest.json" // written last: an entry without it is not complete

func (a *Artefacts) vmlinux() string { return filepath.Join(a.Dir, "vmlinux") }
func (a *Artefacts) busybox() string { return filepath.Join(a.Dir, "busybox") }

// modules is the directory that becomes /lib/modules/<release> of a guest.
func (a *Artefacts) modules() string { return filepath.Join(a.Dir, "modules") }

// variant is another build of one of the modules.
func (a *Artefacts) variant(name string) string {
	return filepath.Join(a.Dir, "variants", name+".ko")
}

// DefaultCacheDir is $KINDRED_LAB_CACHE, else kindred/lab in the user's cache.
func DefaultCacheDir() (string, error) {
	if dir := os.Getenv("KINDRED_LAB_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	base, err := os.UserCacheDir() // $XDG_CACHE_HOME, else ~/.cache
	if err != nil {
		return "", fmt.Errorf("lab: no place for a cache, set KINDRED_LAB_CACHE: %w", err)
	}
	return filepath.Join(base, "kindred", "lab"), nil
}

// Prepare makes sure that everything a guest needs is in cacheDir (empty: the
// default) and returns it. With a warm cache it only builds the guest's first
// process, from this source tree. A cold one needs Debian's archive and some
// seconds. Concurrent callers, in any number of processes, wait for one another;
// an interrupted build leaves nothing behind that a later one would believe.
//
// On Debian as root, missing packages are installed, never a kernel; otherwise
// the error is a [*MissingError] that lists them.
func Prepare(ctx context.Context, cacheDir string, logf func(format string, args ...any)) (*Artefacts, error) {
	if logf == nil {
		logf = func(string, ...any) {}
	}
	if cacheDir == "" {
		var err error
		if cacheDir, err = DefaultCacheDir(); err != nil {
			return nil, err
		}
	}
	cacheDir, err := filepath.Abs(cacheDir)
	if err != nil {
		return nil, fmt.Errorf("lab: cache directory: %w", err)
	}
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return nil, fmt.Errorf("lab: making the cache: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(cacheDir, "lock"), logf)
	if err != nil {
		return nil, err
	}
	defer unlock()
	sweep(cacheDir, logf)
	a, err := choose(ctx, cacheDir, logf)
	if err != nil {
		return nil, err
	}
	if err := ensurePackages(ctx, bootPackages(), logf); err != nil {
		return nil, fmt.Errorf("lab: preparing to boot: %w", err)
	}
	if a, err = withDriver(ctx, cacheDir, a, logf); err != nil {
		return nil, err
	}
	return withInit(ctx, cacheDir, a)
}

// askAgain is for how long the newest kernel of yesterday is new enough: asking
// apt takes longer than all the rest of a warm start.
const askAgain = 24 * time.Hour

// choose returns the entry for the newest kernel, built if need be. A machine that
// cannot ask for the newest makes do with what it has.
func choose(ctx context.Context, cacheDir string, logf func(string, ...any)) (*Artefacts, error) {
	have, asked := newestEntry(cacheDir)
	if have != nil && time.Since(asked) < askAgain {
		return have, nil
	}
	k, err := newestKernel(ctx)
	switch {
	case err != nil && have != nil && ctx.Err() == nil:
		logf("lab: using kernel %s from the cache: %v", have.Release, err)
		return have, nil
	case err != nil:
		return nil, fmt.Errorf("lab: choosing a kernel: %w", err)
	}
	dir := filepath.Join(cacheDir, entryName(k))
	a, err := loadEntry(dir)
	if errors.Is(err, fs.ErrNotExist) {
		a, err = buildEntry(ctx, cacheDir, k, logf)
	}
	if err != nil {
		return nil, fmt.Errorf("lab: preparing kernel %s in %s: %w", k.release, cacheDir, err)
	}
	// The manifest's time is when we last asked.
	now := time.Now()
	if err := os.Chtimes(filepath.Join(dir, manifest), now, now); err != nil {
		return nil, fmt.Errorf("lab: preparing kernel %s: %w", k.release, err)
	}
	return a, nil
}

func entryName(k kernel) string { return entryFor("kernel", k, recipe()) }

func entryFor(what string, k kernel, recipe string) string {
	return what + "-" + strings.NewReplacer("/", "_", ":", "_").Replace(k.version) + "-" + recipe
}

func loadEntry(dir string) (*Artefacts, error) {
	data, err := os.ReadFile(filepath.Join(dir, manifest))
	if err != nil {
		return nil, err
	}
	a := &Artefacts{Dir: dir}
	if err := json.Unmarshal(data, a); err != nil {
		return nil, fmt.Errorf("reading %s (remove the directory to build it again): %w", filepath.Join(dir, manifest), err)
	}
	return a, nil
}

// newestEntry is the complete entry with the newest kernel, or nil, and when it was
// last found to be the newest there is.
func newestEntry(cacheDir string) (newest *Artefacts, asked time.Time) {
	manifests, _ := filepath.Glob(filepath.Join(cacheDir, "kernel-*-"+recipe(), manifest)) // the pattern is well-formed
	for _, m := range manifests {
		a, err := loadEntry(filepath.Dir(m))
		info, statErr := os.Stat(m)
		if err == nil && statErr == nil && (newest == nil || releaseLess(newest.Release, a.Release)) {
			newest, asked = a, info.ModTime()
		}
	}
	return newest, asked
}

// buildEntry builds aside and renames: the entry appears whole or not at all.
func buildEntry(ctx context.Context, cacheDir string, k kernel, logf func(string, ...any)) (*Artefacts, error) {
	started := time.Now()
	if err := ensurePackages(ctx, buildPackages(k), logf); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(cacheDir, workPrefix)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	out := filepath.Join(work, "out")
	if err := build(ctx, k, work, out, logf); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(&Artefacts{Release: k.release, PackageVersion: k.version, Recipe: recipe()}, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(out, manifest), append(data, '\n'), 0o644); err != nil {
		return nil, err
	}
	dir := filepath.Join(cacheDir, entryName(k))
	if err := os.RemoveAll(dir); err != nil { // one without a manifest
		return nil, err
	}
	if err := os.Rename(out, dir); err != nil {
		return nil, err
	}
	logf("lab: prepared kernel %s in %.1f s", k.release, time.Since(started).Seconds())
	return loadEntry(dir)
}

const workPrefix = "work-"

// sweep removes what interrupted builds left. We hold the lock: no other Prepare
// is running, but children of one that was killed may still be writing. What
// cannot be removed for that is in nobody's way and waits for the next time.
func sweep(cacheDir string, logf func(string, ...any)) {
	left, _ := filepath.Glob(filepath.Join(cacheDir, workPrefix+"*")) // the pattern is well-formed
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			logf("lab: an interrupted build is still being cleaned up: %v", err)
		}
	}
}

// lock waits for the cache's lock in small steps, so that ctx can end the wait.
// The kernel drops it when the holder dies.
func lock(ctx context.Context, path string, logf func(string, ...any)) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lab: opening the cache's lock: %w", err)
	}
	for said := false; ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lab: locking %s: %w", path, err)
		}
		if !said {
			logf("lab: waiting for another program to prepare %s", filepath.Dir(path))
			said = true
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lab: waiting for %s: %w", path, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
