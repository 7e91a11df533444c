// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"compress/gzip"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kindred/api"
	"kindred/inventory"
)

// changing are the system calls that change files, but for open's.
var changing = "mkdir,mkdirat,rmdir,unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,mknod,mknodat,chmod,fchmod,fchmodat,chown,lchown,fchown,fchownat,truncate,ftruncate,utimensat,setxattr,mount,umount2,ioctl"

// TestObserves runs an agent that observes until it has reported twice, and
// looks at every system call: it opens nothing for writing and changes nothing.
// Programs that it asks for their version (QEMU) are not looked at.
func TestObserves(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is needed to see system calls (Debian's package strace)")
	}
	self, err := exec.LookPath("kindred")
	if err != nil {
		t.Fatal(err)
	}
	var reports atomic.Int32
	known := make(map[string]bool) // requests come one after the other
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/v1/static/"):
			known[strings.TrimPrefix(r.URL.Path, "/v1/static/")] = true
		case strings.HasSuffix(r.URL.Path, "/report"):
			report := &api.Report{Own: new(inventory.Own)}
			text, err := gzip.NewReader(r.Body)
			if err == nil {
				err = json.NewDecoder(text).Decode(report)
			}
			if err != nil || r.Header.Get("Content-Encoding") != api.Gzip {
				t.Errorf("%s: %v", r.Header, err)
			}
			if !known[report.Own.Static] {
				w.WriteHeader(http.StatusConflict)
				_ = json.NewEncoder(w).Encode(api.NewProblem(api.NeedStatic, ""))
				return
			}
			if report.Mode != api.Observe {
				t.Errorf("it is in the mode %s", report.Mode)
			}
			reports.Add(1)
		case strings.HasSuffix(r.URL.Path, "/alive"):
			w.WriteHeader(http.StatusConflict)
			_ = json.NewEncoder(w).Encode(api.NewProblem(api.NeedReport, ""))
			return
		default:
			t.Errorf("it asks for %s", r.URL.Path)
		}
		_ = json.NewEncoder(w).Encode(api.ReportAnswer{Interval: api.Duration(time.Second)})
	}))
	defer server.Close()

	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command(strace, "-f", "-qq", "-o", trace, "-e", "trace=execve,open,openat,openat2,creat,"+changing, self, "agent", "--server", server.URL, "--poll", "1s")
	cmd.Stderr = t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 60 * 20 {
		if reports.Load() >= 2 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // strace ends as what it traced did
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "PTRACE") || len(data) == 0 {
		t.Skipf("strace cannot trace here: %s", data)
	}
	if reports.Load() < 2 || !strings.Contains(string(data), "mdev_bus") {
		t.Fatalf("%d reports; it did not read the host:\n%s", reports.Load(), data)
	}
	writes := regexp.MustCompile(`O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND|O_TMPFILE|\bcreat\(`)
	other := regexp.MustCompile(`\b(` + strings.ReplaceAll(changing, ",", "|") + `)\(`)
	others := make(map[string]bool) // processes
	for line := range strings.Lines(string(data)) {
		pid, call, _ := strings.Cut(line, " ")
		if strings.HasPrefix(strings.TrimSpace(call), "execve(") {
			others[pid] = !strings.Contains(call, `"agent"`)
		}
		if others[pid] {
			continue
		}
		if writes.MatchString(line) || other.MatchString(line) {
			t.Error(strings.TrimSpace(line))
		}
	}
}
