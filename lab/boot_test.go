// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// needLab skips tests that boot, unless they were asked for; then nothing that is
// missing is an excuse.
func needLab(t *testing.T) (context.Context, *Artefacts) {
	t.Helper()
	if os.Getenv("KINDRED_LAB") != "1" {
		t.Skip("boots real kernels under QEMU, which takes some seconds and Debian's packages; run it with: KINDRED_LAB=1 go test ./lab/")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	a, err := Prepare(ctx, "", t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	return ctx, a
}

// bootAll boots hosts at once and checks at the end that nothing of them is left.
func bootAll(ctx context.Context, t *testing.T, a *Artefacts, hosts ...Host) []*Guest {
	t.Helper()
	before := openFiles(t)
	guests, errs := make([]*Guest, len(hosts)), make([]error, len(hosts))
	var all sync.WaitGroup
	started := time.Now()
	for i, h := range hosts {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			guests[i], errs[i] = Boot(ctx, a, h)
		})
	}
	all.Wait()
	t.Logf("%d hosts booted in %.1f s", len(hosts), time.Since(started).Seconds())
	t.Cleanup(func() {
		for _, g := range guests {
			if g == nil {
				continue
			}
			g.Close()
			if _, err := os.Stat(fmt.Sprintf("/proc/%d", g.PID())); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("guest %s: QEMU %d is still there after Close: %v", g.Name, g.PID(), err)
			}
		}
		if after := openFiles(t); after > before {
			t.Errorf("%d open files before, %d after", before, after)
		}
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return guests
}

// openFiles counts what a guest needs of this program: sockets and memory files.
func openFiles(t *testing.T) (n int) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		if strings.HasPrefix(to, "socket:") || strings.Contains(to, "memfd:") {
			n++
		}
	}
	return n
}

func known(t *testing.T, name string) Host {
	t.Helper()
	h, ok := KnownHost(name)
	if !ok {
		t.Fatalf("no known host %q", name)
	}
	return h
}

// sh runs a script that must succeed and returns what it printed, trimmed.
func sh(ctx context.Context, t *testing.T, c *Client, script string) string {
	t.Helper()
	r, err := c.Run(ctx, Cmd{Argv: []string{"sh", "-ec", script}})
	if err != nil {
		t.Fatal(err)
	}
	if r.ExitCode != 0 {
		t.Fatalf("guest %s: %s: exit code %d: %s", c.name, script, r.ExitCode, r.Stderr)
	}
	return strings.TrimSpace(string(r.Stdout))
}

func TestTwoHosts(t *testing.T) {
	ctx, a := needLab(t)
	guests := bootAll(ctx, t, a, known(t, "a"), known(t, "c"))
	first, rebuilt := guests[0], guests[1]

	for _, g := range guests {
		if got := sh(ctx, t, g.Client, "uname -r"); got != a.Release || g.Release != a.Release {
			t.Errorf("guest %s: uname -r = %q, greeting %q, prepared %q", g.Name, got, g.Release, a.Release)
		}
		if got := sh(ctx, t, g.Client, "hostname"); got != g.Name {
			t.Errorf("hostname = %q, want %q", got, g.Name)
		}
	}
	parents := map[*Guest]string{first: "mbochs\nmdpy\nmtty", rebuilt: "mdpy\nmtty"}
	for g, want := range parents {
		if got := sh(ctx, t, g.Client, "ls /sys/class/mdev_bus"); got != want {
			t.Errorf("guest %s: parents %q, want %q", g.Name, got, want)
		}
	}
	t.Run("create", func(t *testing.T) { testCreate(ctx, t, first) })
	t.Run("build-ids", func(t *testing.T) { testBuildIDs(ctx, t, first, rebuilt) })
	t.Run("run", func(t *testing.T) { testRun(ctx, t, first) })
	t.Run("files", func(t *testing.T) { testFiles(ctx, t, first) })
	t.Run("capture", func(t *testing.T) { testCapture(ctx, t, first) })
	t.Run("orphans", func(t *testing.T) { testOrphans(ctx, t, first) })
	t.Run("modprobe", func(t *testing.T) {
		sh(ctx, t, first.Client, "modprobe vfio-pci && test -d /sys/bus/pci/drivers/vfio-pci")
	})
	t.Run("serve", func(t *testing.T) { testServe(ctx, t, first) })
	t.Run("console", func(t *testing.T) { testConsole(ctx, t, first) })
	t.Run("kernel log", func(t *testing.T) {
		log, err := first.KernelLog(ctx)
		if err != nil || !bytes.Contains(log, []byte("mtty mtty: MDEV: Registered")) || !bytes.Contains(log, []byte("Linux version")) {
			t.Errorf("kernel log of %d bytes, %v; want it from the first line to mtty's registration", len(log), err)
		}
	})
}

func TestPanic(t *testing.T) {
	ctx, a := needLab(t)
	g := bootAll(ctx, t, a, Host{Name: "doomed"})[0]
	started := time.Now()
	_, err := g.Run(ctx, Cmd{Argv: []string{"sh", "-c", "echo c > /proc/sysrq-trigger; sleep 600"}})
	var died *DiedError
	if !errors.As(err, &died) {
		t.Fatalf("error %v, want a DiedError", err)
	}
	if !strings.Contains(died.Cause, "Kernel panic") || !strings.Contains(died.Console, "sysrq") {
		t.Errorf("cause %q, console:\n%s", died.Cause, died.Console)
	}
	if took := time.Since(started); took > time.Minute {
		t.Errorf("it took %v to notice", took)
	}
	if _, err := g.Run(ctx, Cmd{Argv: []string{"true"}}); !errors.As(err, &died) {
		t.Errorf("a call after the end: %v, want a DiedError", err)
	}
}

func TestCloseEndsCalls(t *testing.T) {
	ctx, a := needLab(t)
	g := bootAll(ctx, t, a, Host{Name: "closed"})[0]
	ended := make(chan error, 1)
	go func() {
		_, err := g.Run(ctx, Cmd{Argv: []string{"sleep", "60"}})
		ended <- err
	}()
	sh(ctx, t, g.Client, `for i in $(seq 600); do grep -lx sleep /proc/[0-9]*/comm && exit 0; usleep 100000; done; exit 1`)
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, errClosed) {
		t.Errorf("the call in flight: %v, want that the guest was closed", err)
	}
	if _, err := g.Run(ctx, Cmd{Argv: []string{"true"}}); !errors.Is(err, errClosed) {
		t.Errorf("a call afterwards: %v, want that the guest was closed", err)
	}
	if text := g.console.text(); !strings.Contains(text, "Power down") {
		t.Errorf("it did not power off by itself; its console: %q", text)
	}
}

func TestBootFailures(t *testing.T) {
	ctx, a := needLab(t)
	cases := []struct {
		name, want string
		host       Host
	}{
		{"module refuses", "lab guest: loading", Host{Name: "x", Modules: []string{"mdpy count=nonsense"}}},
		{"QEMU refuses", "no-such-device", Host{Name: "x", QEMUArgs: []string{"-device", "no-such-device"}}},
		{"no such module", `"nosuch"`, Host{Name: "x", Modules: []string{"nosuch"}}},
		{"bad name", "host name", Host{Name: "x,y"}},
		{"no init", "Kernel panic", Host{Name: "x", KernelArgs: []string{"rdinit=/none", "init=/none"}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g, err := Boot(ctx, a, c.host)
			if err == nil {
				g.Close()
				t.Fatal("it booted")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
		})
	}
	t.Run("deadline", func(t *testing.T) {
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		g, err := Boot(short, a, Host{Name: "slow"})
		if err == nil {
			g.Close()
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the deadline", err)
		}
	})
}

func TestNetwork(t *testing.T) {
	ctx, a := needLab(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	here := l.Addr().(*net.TCPAddr).Port
	l.Close() // QEMU takes it
	g := bootAll(ctx, t, a, Host{Name: "net", Network: &Network{Forward: []Forward{{Here: here, There: 80}}}})[0]
	sh(ctx, t, g.Client, "mkdir -p /srv; echo hello > /srv/index.html; httpd -p 80 -h /srv")
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", here), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasSuffix(string(answer), "hello\n") {
		t.Errorf("answer %q, %v", answer, err)
	}
}

// TestArtefacts looks at what Prepare made without booting it.
func TestArtefacts(t *testing.T) {
	ctx, a := needLab(t)
	for _, file := range []string{a.vmlinux(), a.busybox(), a.Init, a.variant("mtty-rebuilt")} {
		f, err := elf.Open(file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if f.Section(".debug_info") != nil {
			t.Errorf("%s has debug information", file)
		}
		f.Close()
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(a.Dir), workPrefix+"*")); len(left) > 0 {
		t.Errorf("left in the cache: %v", left)
	}
	missing, err := missingPackages(ctx, []string{"dpkg", "no-such-package"})
	if err != nil || !slices.Equal(missing, []string{"no-such-package"}) {
		t.Errorf("missing packages %q, %v; want the one that does not exist", missing, err)
	}
}
