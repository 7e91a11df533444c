// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func testCreate(ctx context.Context, t *testing.T, g *Guest) {
	const (
		types = "/sys/class/mdev_bus/mtty/mdev_supported_types"
		uuid  = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
	)
	available := "cat " + types + "/mtty-1/available_instances " + types + "/mtty-2/available_instances"
	if got := sh(ctx, t, g.Client, available); got != "24\n12" {
		t.Errorf("before: available mtty-1, mtty-2 = %q, want 24, 12", got)
	}
	sh(ctx, t, g.Client, "echo "+uuid+" > "+types+"/mtty-2/create")
	if got := sh(ctx, t, g.Client, available); got != "22\n11" {
		t.Errorf("after: available mtty-1, mtty-2 = %q, want 22, 11", got)
	}
	if got := sh(ctx, t, g.Client, "basename $(readlink /sys/bus/mdev/devices/"+uuid+"/mdev_type)"); got != "mtty-2" {
		t.Errorf("type of the device = %q, want mtty-2", got)
	}
	t.Logf("an mdev has: %s", strings.Join(strings.Fields(sh(ctx, t, g.Client, "ls /sys/bus/mdev/devices/"+uuid)), " "))
}

func testBuildIDs(ctx context.Context, t *testing.T, first, rebuilt *Guest) {
	const note = "/sys/module/mtty/notes/.note.gnu.build-id"
	one, err := first.Get(ctx, note)
	if err != nil {
		t.Fatal(err)
	}
	two, err := rebuilt.Get(ctx, note)
	if err != nil {
		t.Fatal(err)
	}
	const noteSize = 16 + 20 // header with the name "GNU", SHA-1
	if len(one) != noteSize || len(two) != noteSize || bytes.Equal(one, two) {
		t.Errorf("build-ids of mtty: %x and %x, want two different ones", one, two)
	}
	// The source is the same, and the kernel's other identity of a module says so.
	const source = "cat /sys/module/mtty/version /sys/module/mtty/srcversion"
	if one, two := sh(ctx, t, first.Client, source), sh(ctx, t, rebuilt.Client, source); one == "" || one != two {
		t.Errorf("version and srcversion of mtty: %q and %q, want them equal", one, two)
	}
}

func testRun(ctx context.Context, t *testing.T, g *Guest) {
	cases := []struct {
		name string
		cmd  Cmd
		want Result
	}{
		{"exit code and both streams", Cmd{Argv: []string{"sh", "-c", "echo out; echo err >&2; exit 7"}}, Result{[]byte("out\n"), []byte("err\n"), 7}},
		{"environment", Cmd{Argv: []string{"sh", "-c", `echo "$WHO $HOME"`}, Env: []string{"WHO=me"}}, Result{Stdout: []byte("me /root\n"), Stderr: []byte{}}},
		{"input", Cmd{Argv: []string{"tr", "a-z", "A-Z"}, Stdin: strings.NewReader("loud")}, Result{Stdout: []byte("LOUD"), Stderr: []byte{}}},
		{"signal", Cmd{Argv: []string{"sh", "-c", "kill -9 $$"}}, Result{Stdout: []byte{}, Stderr: []byte{}, ExitCode: 137}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := g.Run(ctx, c.cmd)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("no such command", func(t *testing.T) {
		if _, err := g.Run(ctx, Cmd{Argv: []string{"no-such-command"}}); err == nil || !strings.Contains(err.Error(), "no-such-command") {
			t.Errorf("error %v, want one that names the command", err)
		}
	})
	t.Run("given up", func(t *testing.T) {
		const sleeping = `grep -lx sleep /proc/[0-9]*/comm`
		short, cancel := context.WithCancel(ctx)
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			_, err := g.Run(short, Cmd{Argv: []string{"sh", "-c", "sleep 4242; true"}})
			ended <- err
		}()
		sh(ctx, t, g.Client, "for i in $(seq 600); do "+sleeping+" && exit 0; usleep 100000; done; exit 1")
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v, want the cancelling", err)
		}
		// The guest is told after the fact.
		sh(ctx, t, g.Client, "for i in $(seq 600); do "+sleeping+" || exit 0; usleep 100000; done; exit 1")
	})
}

func testFiles(ctx context.Context, t *testing.T, g *Guest) {
	random := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{0, 1, 1 << 20, 3<<20 + 5} {
		want := make([]byte, size)
		random.Read(want)
		const path = "/var/lib/deep/down/file"
		if err := g.Put(ctx, path, 0o640, bytes.NewReader(want)); err != nil {
			t.Fatal(err)
		}
		got, err := g.Get(ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes put, %d other bytes got", len(want), len(got))
		}
		sum := fmt.Sprintf("%x", sha256.Sum256(want))
		if got := sh(ctx, t, g.Client, "sha256sum < "+path+"; stat -c %a "+path+"; ls "+filepath.Dir(path)); got != sum+"  -\n640\nfile" {
			t.Errorf("in the guest: %q, want sum %s, mode 640 and no second file", got, sum)
		}
	}
	if _, err := g.Get(ctx, "/no/such/file"); err == nil || !strings.Contains(err.Error(), "/no/such/file") {
		t.Errorf("error %v, want one that names the file", err)
	}
}

func testCapture(ctx context.Context, t *testing.T, g *Guest) {
	started := time.Now()
	if err := g.Capture(ctx, []string{"/sys/devices", "/sys/bus", "/sys/class", "/sys/module", "/proc/*"}, io.Discard); err != nil {
		t.Error(err)
	}
	t.Logf("capturing nearly everything took %.1f s", time.Since(started).Seconds())
	globs := []string{"/sys/class/mdev_bus", "/sys/class/mdev_bus/mtty/mdev_supported_types", "/sys/module/mtty", "/proc/sys/kernel/ostype", "/proc/kmsg", "/etc/machine-id"}
	var one, two bytes.Buffer
	if err := g.Capture(ctx, globs, &one); err != nil {
		t.Fatal(err)
	}
	if err := g.Capture(ctx, globs, &two); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("two captures of the same state differ")
	}
	type item struct {
		kind                     byte
		mode                     int64
		contents, target, unread string
	}
	got := map[string]item{}
	for r := tar.NewReader(&one); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(time.Unix(0, 0)) {
			t.Errorf("%s has the time %v", h.Name, h.ModTime)
		}
		got[h.Name] = item{h.Typeflag, h.Mode, string(data), h.Linkname, h.PAXRecords["KINDRED.unread"]}
	}
	const types = "sys/devices/virtual/mtty/mtty/mdev_supported_types/"
	want := map[string]item{
		"sys/class/mdev_bus/":      {kind: tar.TypeDir, mode: 0o755},
		"sys/class/mdev_bus/mtty":  {kind: tar.TypeSymlink, mode: 0o777, target: "../../devices/virtual/mtty/mtty"},
		"sys/class/mdev_bus/mdpy":  {kind: tar.TypeSymlink, mode: 0o777, target: "../../devices/virtual/mdpy/mdpy"},
		types + "mtty-1/name":      {kind: tar.TypeReg, mode: 0o444, contents: "Single port serial\n"},
		types + "mtty-1/create":    {kind: tar.TypeReg, mode: 0o200, unread: "write-only"},
		types + "mtty-1/devices/":  {kind: tar.TypeDir, mode: 0o755},
		"sys/module/mtty/holders/": {kind: tar.TypeDir, mode: 0o755},
		"proc/sys/kernel/ostype":   {kind: tar.TypeReg, mode: 0o444, contents: "Linux\n"},
		"proc/kmsg":                {kind: tar.TypeReg, mode: 0o400, unread: "consumed by reading"},
	}
	for name, w := range want {
		if diff := cmp.Diff(w, got[name], cmp.AllowUnexported(item{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if note := got["sys/module/mtty/notes/.note.gnu.build-id"]; len(note.contents) != 36 {
		t.Errorf("the build-id note has %d bytes, want 36", len(note.contents))
	}
}

func testOrphans(ctx context.Context, t *testing.T, g *Guest) {
	// By the time of the question all five have ended, without their parents.
	sh(ctx, t, g.Client, "for i in 1 2 3 4 5; do (sh -c 'usleep 100000 &'); done; usleep 400000")
	if got := sh(ctx, t, g.Client, `n=0; while z=$(grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null) && test $n -lt 600; do n=$((n+1)); usleep 100000; done; echo $z`); got != "" {
		t.Errorf("nobody reaped %s", got)
	}
}

func testServe(ctx context.Context, t *testing.T, g *Guest) {
	socket := filepath.Join(t.TempDir(), "a.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	serveCtx, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- g.Serve(serveCtx, l) }()
	c, err := Dial(ctx, "a", socket)
	if err != nil {
		t.Fatal(err)
	}
	if got := sh(ctx, t, c, "hostname"); got != "a" {
		t.Errorf("hostname by way of the socket = %q", got)
	}
	stop()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := c.Run(ctx, Cmd{Argv: []string{"true"}}); err == nil {
		t.Error("Run succeeded after the end of Serve")
	}
	c.Hangup()
}

func testConsole(ctx context.Context, t *testing.T, g *Guest) {
	socket := filepath.Join(t.TempDir(), "a.console")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	serveCtx, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- g.ServeConsole(serveCtx, l) }()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	// Job control works only on a controlling terminal.
	fmt.Fprint(conn, "sleep 1 &\njobs; tty; echo $((6*7))done\n")
	var said strings.Builder
	for buf := make([]byte, 4096); !strings.Contains(said.String(), "42done"); {
		n, err := conn.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			t.Fatalf("the shell said %q, then %v", said.String(), err)
		}
	}
	if !strings.Contains(said.String(), "[1]") || !strings.Contains(said.String(), "/dev/ttyS0") || strings.Contains(said.String(), "job control turned off") {
		t.Errorf("no job control on ttyS0: %q", said.String())
	}
	stop()
	if err := <-served; err != nil {
		t.Errorf("ServeConsole: %v", err)
	}
}
