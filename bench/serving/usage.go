// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serving

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a process uses and has used so far.
type Usage struct {
	RSS     int64 // bytes
	CPU     time.Duration
	Written int64 // bytes that it made the system write to disk
}

// Of asks the kernel for a process's use, which takes it little.
func Of(pid int) (Usage, error) {
	var u Usage
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return u, fmt.Errorf("ask for a process's memory: %w", err)
	}
	u.RSS = kilobytes(status, "VmRSS:")
	io, err := os.ReadFile(filepath.Join(dir, "io"))
	if err != nil {
		return u, fmt.Errorf("ask for what a process wrote: %w", err)
	}
	u.Written, _ = strconv.ParseInt(field(io, "write_bytes:"), 10, 64)
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return u, fmt.Errorf("ask for a process's time: %w", err)
	}
	// proc_pid_stat(5): what follows the name in parentheses begins with field 3.
	if f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])); len(f) > 12 {
		user, _ := strconv.ParseInt(f[11], 10, 64)
		system, _ := strconv.ParseInt(f[12], 10, 64)
		const tick = 10 * time.Millisecond // USER_HZ, the same on every Linux machine but Alpha's
		u.CPU = time.Duration(user+system) * tick
	}
	return u, nil
}

// Mapped is how much of etcd's file is in the server's memory. It counts as resident,
// and the system takes it back when it is needed elsewhere. To know it the kernel
// looks at every page of the server, for milliseconds: not while time is measured.
func (s *Server) Mapped() (int64, error) {
	file, err := os.Open(filepath.Join("/proc", strconv.Itoa(s.PID), "smaps"))
	if err != nil {
		return 0, fmt.Errorf("ask for a process's memory: %w", err)
	}
	defer file.Close()
	var sum int64
	store := false
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.HasSuffix(line, "/snap/db"):
			store = true
		case strings.HasPrefix(line, "Rss:"):
			if store {
				sum += kilobytes([]byte(line), "Rss:")
			}
			store = false
		}
	}
	return sum, lines.Err()
}

func field(text []byte, name string) string {
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

func kilobytes(text []byte, name string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSuffix(field(text, name), " kB"), 10, 64)
	return n << 10
}

// Busy is the processor time that the machine's programs have used so far.
func Busy() (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	var user, nice, system int64
	if _, err := fmt.Sscanf(string(data), "cpu %d %d %d", &user, &nice, &system); err != nil {
		return 0, fmt.Errorf("read /proc/stat: %w", err)
	}
	return time.Duration(user+nice+system) * 10 * time.Millisecond, nil
}

// Disk is what all programs have written so far to the disk that the server's
// directory is on. Of a process the kernel counts the pages that it made dirty,
// and a page of the cache may be two megabytes large by now.
func (s *Server) Disk() (int64, error) {
	var info unix.Stat_t
	if err := unix.Stat(s.Dir, &info); err != nil {
		return 0, fmt.Errorf("find the disk of %s: %w", s.Dir, err)
	}
	data, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(info.Dev), unix.Minor(info.Dev)))
	if err != nil {
		return 0, fmt.Errorf("ask for what a disk has written: %w", err)
	}
	const at, sector = 6, 512 // Documentation/block/stat.rst
	fields := strings.Fields(string(data))
	if len(fields) <= at {
		return 0, fmt.Errorf("ask for what a disk has written: %q", data)
	}
	n, err := strconv.ParseInt(fields[at], 10, 64)
	return n * sector, err
}

// Stored is how large the server's files are: etcd's, and its log of writes.
func (s *Server) Stored() (db, log int64, err error) {
	err = filepath.WalkDir(filepath.Join(s.Dir, "data", "member"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if filepath.Base(filepath.Dir(path)) == "wal" {
			log += info.Size()
		} else {
			db += info.Size()
		}
		return nil
	})
	return db, log, err
}
