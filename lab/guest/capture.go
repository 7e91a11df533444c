// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxFile     = 64 << 10
	readTimeout = 2 * time.Second
	// unreadKey is the PAX record that tells an empty file from one that has
	// contents nobody could or would read.
	unreadKey = "KINDRED.unread"
)

// hardware matches files whose reading touches a device instead of describing it,
// consumed those whose contents are gone once read.
var (
	hardware = regexp.MustCompile(`^/sys/devices/.*/(resource\d+(_wc)?|rom)$`)
	consumed = regexp.MustCompile(`^(/proc/kmsg|/sys/kernel/(debug/)?tracing/.*trace_pipe(_raw)?)$`)
)

// capture packs what the globs match, with everything below it, the links that
// were passed on the way and the directories above.
func capture(ctx context.Context, globs []string) ([]byte, error) {
	found := map[string]fs.FileInfo{}
	for _, glob := range globs {
		matches, err := filepath.Glob(glob)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", glob, err)
		}
		for _, m := range matches {
			if err := collect(m, found); err != nil {
				return nil, err
			}
		}
	}
	paths := make([]string, 0, len(found))
	for p := range found {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, p := range paths {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := add(w, p, found[p]); err != nil {
			return nil, fmt.Errorf("capturing %s: %w", p, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// collect notes path and what is below it. Links on the way are noted and
// followed, links found below are only noted.
func collect(path string, found map[string]fs.FileInfo) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%q is not an absolute path", path)
	}
	const maxLinks = 40 // as the kernel's
	links := 0
	done, rest := "/", strings.Split(strings.Trim(filepath.Clean(path), "/"), "/")
	for len(rest) > 0 {
		next := filepath.Join(done, rest[0])
		rest = rest[1:]
		info, err := os.Lstat(next)
		if err != nil {
			return gone(err)
		}
		found[next] = info
		if info.Mode()&fs.ModeSymlink == 0 || len(rest) == 0 {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return fmt.Errorf("%s: too many links", path)
		}
		target, err := os.Readlink(next)
		if err != nil {
			return gone(err)
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(done, target)
		}
		rest = append(strings.Split(strings.Trim(filepath.Clean(target), "/"), "/"), rest...)
		done = "/"
	}
	return filepath.WalkDir(done, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return gone(err)
		}
		info, err := os.Lstat(p)
		if err != nil {
			return gone(err)
		}
		found[p] = info
		return nil
	})
}

// gone forgives what vanished while we looked: processes and devices do. So it
// does directories that cannot be listed; their entry stays.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EINVAL) {
		return nil
	}
	return err
}

func add(w *tar.Writer, path string, info fs.FileInfo) error {
	h := &tar.Header{
		Name:    strings.TrimPrefix(path, "/"),
		Mode:    int64(info.Mode().Perm()),
		ModTime: time.Unix(0, 0),
		Format:  tar.FormatPAX,
	}
	var data []byte
	switch {
	case info.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			return gone(err)
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case info.Mode().IsRegular():
		var why string
		data, why = read(path, info)
		h.Typeflag, h.Size = tar.TypeReg, int64(len(data))
		if why != "" {
			h.PAXRecords = map[string]string{unreadKey: why}
		}
	default:
		return nil // sockets, pipes and device nodes say nothing about a host
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// read returns at most maxFile bytes and, if that is not all, why.
func read(path string, info fs.FileInfo) (data []byte, why string) {
	switch {
	case info.Mode().Perm()&0o444 == 0:
		return nil, "write-only"
	case hardware.MatchString(path):
		return nil, "device memory"
	case consumed.MatchString(path):
		return nil, "consumed by reading"
	}
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		data, err := readNow(path)
		done <- result{data, err}
	}()
	select {
	case r := <-done:
		switch {
		case r.err != nil:
			return r.data, r.err.Error()
		case len(r.data) > maxFile:
			return r.data[:maxFile], "cut"
		}
		return r.data, ""
	case <-time.After(readTimeout):
		return nil, "blocked"
	}
}

// readNow does not wait for news where a file would. It reads by itself, because
// the runtime would wait on behalf of an os.File.
func readNow(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var data []byte
	buf := make([]byte, 16<<10)
	for len(data) <= maxFile {
		n, err := unix.Read(fd, buf)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return data, err
		case n == 0:
			return data, nil
		default:
			data = append(data, buf[:n]...)
		}
	}
	return data, nil
}
