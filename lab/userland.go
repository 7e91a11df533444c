// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Userland is programs of a Debian release with all that they need, unpacked in
// the cache. Nothing of it is installed on this machine.
type Userland struct {
	Suite string // bookworm, trixie
	Dir   string // its root directory
}

// releases are what userlands are made of.
var releases = []string{"bookworm", "trixie"}

// PrepareUserland makes sure that packages of a release are in the cache, with
// what they depend on. The first time it needs the archive that this machine
// gets its own packages from; they are unpacked, not configured.
func PrepareUserland(ctx context.Context, cacheDir, suite string, packages []string, logf func(format string, args ...any)) (*Userland, error) {
	u, err := CachedUserland(cacheDir, suite, packages)
	if !errors.Is(err, fs.ErrNotExist) {
		return u, err
	}
	if logf == nil {
		logf = func(string, ...any) {}
	}
	if !slices.Contains(releases, suite) {
		return nil, fmt.Errorf("lab: %q is none of Debian's releases %v", suite, releases)
	}
	cache := filepath.Dir(u.Dir)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, fmt.Errorf("lab: making the cache: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(cache, "lock"), logf)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := os.Stat(u.Dir); err == nil {
		return u, nil // another program was quicker
	}
	started := time.Now()
	work, err := os.MkdirTemp(cache, workPrefix)
	if err != nil {
		return nil, fmt.Errorf("lab: making the cache: %w", err)
	}
	defer os.RemoveAll(work)
	logf("lab: downloading %s of %s with what they need", strings.Join(packages, " "), suite)
	root := filepath.Join(work, "root")
	if err := downloadUserland(ctx, work, root, suite, packages); err != nil {
		return nil, fmt.Errorf("lab: preparing %s of %s: %w", strings.Join(packages, " "), suite, err)
	}
	if err := os.Rename(root, u.Dir); err != nil {
		return nil, fmt.Errorf("lab: preparing %s: %w", suite, err)
	}
	logf("lab: prepared %s in %.1f s", u.Dir, time.Since(started).Seconds())
	return u, nil
}

// CachedUserland is what PrepareUserland made before; the error is
// [fs.ErrNotExist] when it did not.
func CachedUserland(cacheDir, suite string, packages []string) (*Userland, error) {
	if cacheDir == "" {
		var err error
		if cacheDir, err = DefaultCacheDir(); err != nil {
			return nil, err
		}
	}
	sum := sha256.Sum256([]byte("1\x00" + strings.Join(packages, "\x00")))
	u := &Userland{suite, filepath.Join(cacheDir, "userland-"+suite+"-"+hex.EncodeToString(sum[:6]))}
	_, err := os.Stat(u.Dir)
	return u, err
}

// downloadUserland asks the archive by an apt of its own, which knows of no
// package that is installed, so that all dependencies are downloaded.
func downloadUserland(ctx context.Context, work, root, suite string, packages []string) error {
	archive, err := debianArchive(ctx)
	if err != nil {
		return err
	}
	for _, dir := range []string{"state/lists/partial", "cache/archives/partial", "none"} {
		if err := os.MkdirAll(filepath.Join(work, dir), 0o755); err != nil {
			return err
		}
	}
	sources := filepath.Join(work, "sources.list")
	if err := errors.Join(
		os.WriteFile(sources, []byte("deb "+archive+" "+suite+" main\n"), 0o644),
		os.WriteFile(filepath.Join(work, "status"), nil, 0o644)); err != nil {
		return err
	}
	var options []string
	for _, o := range []string{
		"Dir::Etc::sourcelist=" + sources, "Dir::Etc::sourceparts=" + work + "/none", "Dir::State=" + work + "/state", "Dir::State::status=" + work + "/status",
		"Dir::Cache=" + work + "/cache", "APT::Sandbox::User=root", "Acquire::Languages=none", "APT::Install-Recommends=0",
		"Debug::NoLocking=1", // of this machine's own packages, which are not touched
	} {
		options = append(options, "-o", o)
	}
	if _, err := output(ctx, "apt-get", append(options, "update", "-qq")...); err != nil {
		return err
	}
	if _, err := output(ctx, "apt-get", append(append(options, "install", "-y", "-qq", "--download-only"), packages...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(work, "cache/archives/*.deb"))
	if err != nil || len(debs) == 0 {
		return fmt.Errorf("apt downloaded nothing: %w", err)
	}
	for _, deb := range debs {
		if _, err := output(ctx, "dpkg", "-x", deb, root); err != nil {
			return err
		}
	}
	return nil
}

// debianArchive is where this machine gets Debian's packages from.
func debianArchive(ctx context.Context) (string, error) {
	targets, err := output(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(ORIGIN) $(COMPONENT)", "Created-By: Packages")
	if err != nil {
		return "", fmt.Errorf("userlands come from Debian's archive: %w", err)
	}
	for line := range strings.Lines(targets) {
		if f := strings.Fields(line); len(f) == 4 && slices.Contains(releases, f[1]) && f[2] == "Debian" && f[3] == "main" {
			return f[0], nil
		}
	}
	return "", errors.New("apt knows no archive of Debian: run apt-get update on a Debian machine")
}

// find is the file of that path; Debian's /lib is /usr/lib since some release.
func (u *Userland) find(name string) (string, bool) {
	for _, candidate := range []string{name, "/usr" + name, strings.TrimPrefix(name, "/usr")} {
		path := filepath.Join(u.Dir, candidate)
		for range 8 { // links lead within the userland
			info, err := os.Lstat(path)
			if err != nil {
				break
			}
			if info.Mode().IsRegular() {
				return strings.TrimPrefix(path, u.Dir), true
			}
			target, err := os.Readlink(path)
			if err != nil {
				break
			}
			if !filepath.IsAbs(target) {
				target = filepath.Join(filepath.Dir(strings.TrimPrefix(path, u.Dir)), target)
			}
			path = filepath.Join(u.Dir, target)
		}
	}
	return "", false
}

// libraries are the directories of shared libraries on amd64.
var libraries = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu/systemd", "/lib/systemd", "/usr/lib/x86_64-linux-gnu/libvirt", "/lib64"}

// Tar writes programs, other files and whole directories of the userland, with
// the shared libraries that they need, as a tar whose names begin with prefix.
func (u *Userland) Tar(w io.Writer, prefix string, names ...string) error {
	t := &tarball{u: u, w: tar.NewWriter(w), prefix: strings.Trim(prefix, "/"), done: map[string]bool{}}
	for _, name := range names {
		info, err := os.Stat(filepath.Join(u.Dir, name))
		if err == nil && info.IsDir() {
			err = filepath.WalkDir(filepath.Join(u.Dir, name), func(p string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				return t.add(strings.TrimPrefix(p, u.Dir), strings.TrimPrefix(p, u.Dir))
			})
		} else {
			err = t.add(name, name)
		}
		if err != nil {
			return fmt.Errorf("lab: %s of %s: %w", name, u.Suite, err)
		}
	}
	return t.w.Close()
}

type tarball struct {
	u      *Userland
	w      *tar.Writer
	prefix string
	done   map[string]bool
}

// add writes the file that name leads to as to, and what it needs.
func (t *tarball) add(name, to string) error {
	if t.done[to] {
		return nil
	}
	t.done[to] = true
	file, ok := t.u.find(name)
	if !ok {
		return fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	path := filepath.Join(t.u.Dir, file)
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	header := &tar.Header{Name: strings.TrimPrefix(filepath.Join(t.prefix, to), "/"), Mode: int64(info.Mode().Perm()), Size: int64(len(data)), Typeflag: tar.TypeReg}
	if err := t.w.WriteHeader(header); err != nil {
		return err
	}
	if _, err := t.w.Write(data); err != nil {
		return err
	}
	if !bytes.HasPrefix(data, []byte("\x7fELF")) {
		return nil
	}
	return t.needs(data)
}

// needs adds the shared libraries of a program, and what loads them.
func (t *tarball) needs(data []byte) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	for _, name := range names {
		i := slices.IndexFunc(libraries, func(dir string) bool { _, ok := t.u.find(dir + "/" + name); return ok })
		if i < 0 {
			return fmt.Errorf("the library %s: %w", name, fs.ErrNotExist)
		}
		if err := t.add(libraries[i]+"/"+name, libraries[i]+"/"+name); err != nil {
			return err
		}
	}
	if interp := f.Section(".interp"); interp != nil {
		loader, err := interp.Data()
		if err != nil {
			return err
		}
		name := string(bytes.TrimRight(loader, "\x00"))
		return t.add(name, name)
	}
	return nil
}

// PutUserland puts programs of a userland with all they need into the guest,
// below prefix.
func (g *Guest) PutUserland(ctx context.Context, u *Userland, prefix string, names ...string) error {
	var packed bytes.Buffer
	if err := u.Tar(&packed, prefix, names...); err != nil {
		return err
	}
	const file = "/tmp/userland.tar"
	if err := g.Put(ctx, file, 0o600, &packed); err != nil {
		return err
	}
	r, err := g.Run(ctx, Cmd{Argv: []string{"sh", "-ec", "tar -x -f " + file + " -C /; rm " + file}})
	if err == nil && r.ExitCode != 0 {
		err = fmt.Errorf("lab: guest %s: unpacking a userland: %s", g.Name, r.Stderr)
	}
	return err
}
