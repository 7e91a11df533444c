// SPDX-License-Identifier: Apache-2.0

//go:build linux

package contention

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// insideVariable is set in the process that has namespaces of its own.
const insideVariable = "KINDRED_CONTENTION_INSIDE"

// inside runs the calling test again in a process with namespaces of its own, for
// the network, mounts and processes, where it returns true. Whatever the test
// starts or makes there is gone with that process, however it ends.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideVariable) != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("it is root who can make network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("there is no ip (Debian: apt-get install iproute2)")
	}
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", dir, "kindred/cmd/kindredd").CombinedOutput(); err != nil {
		t.Fatalf("build kindredd: %v: %s", err, out)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v="+fmt.Sprint(testing.Verbose()), "-test.timeout=10m")
	cmd.Env = append(os.Environ(), insideVariable+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	alive, err := cmd.StdinPipe() // it ends when this process does, however that is
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Run()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("this system lets nobody make network namespaces")
	}
	text := strings.TrimSuffix(strings.TrimSpace(said.String()), "PASS")
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 1 {
		t.Fatal(text)
	} else if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if strings.Contains(text, "--- SKIP") {
		t.Skip(text)
	}
	t.Log(text)
	return false
}

// world is a bridge, and nodes with a cable to it each.
type world struct {
	t   *testing.T
	dir string // of the programs, and of what they keep

	mu    sync.Mutex
	nodes []*node
}

// newWorld prepares the process's own namespaces. Nobody else sees them.
func newWorld(t *testing.T) *world {
	t.Helper()
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1)) // never answers while the parent lives
		os.Exit(3)
	}()
	dir := os.Getenv(insideVariable)
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal("keep mounts to this process: ", err)
	}
	// Processes have other numbers here, and ip keeps names of namespaces in /run.
	for _, m := range [][2]string{{"proc", "/proc"}, {"tmpfs", "/run"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			t.Skipf("mount %s on %s: %v", m[0], m[1], err)
		}
	}
	w := &world{t: t, dir: dir}
	if out, err := exec.Command("ip", "link", "add", "bridge", "type", "bridge").CombinedOutput(); err != nil {
		t.Skipf("this kernel makes no bridge: %s", out)
	}
	w.ip("link", "set", "bridge", "up")
	w.ip("address", "add", "10.77.0.250/24", "dev", "bridge")
	return w
}

func (w *world) ip(args ...string) {
	w.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		w.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

// node is a program with a network of its own.
type node struct {
	*world
	name    string
	address string
	argv    []string
	env     []string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
}

// add makes a node for a program.
func (w *world) add(name string) *node {
	w.t.Helper()
	w.mu.Lock()
	n := &node{world: w, name: name, address: fmt.Sprintf("10.77.0.%d", len(w.nodes)+1)}
	w.nodes = append(w.nodes, n)
	w.mu.Unlock()
	w.ip("netns", "add", name)
	w.ip("link", "add", "to-"+name, "type", "veth", "peer", "name", "cable", "netns", name)
	w.ip("link", "set", "to-"+name, "master", "bridge", "up")
	w.ip("-n", name, "link", "set", "lo", "up")
	w.ip("-n", name, "address", "add", n.address+"/24", "dev", "cable")
	w.ip("-n", name, "link", "set", "cable", "up")
	return n
}

// start starts the node's program, unless it runs.
func (n *node) start() {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended != nil {
		select {
		case <-n.ended:
		default:
			return
		}
	}
	log, err := os.OpenFile(n.file(n.name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Error(err)
		return
	}
	defer log.Close()
	cmd := exec.Command("ip", append([]string{"netns", "exec", n.name}, n.argv...)...)
	cmd.Env = append(os.Environ(), n.env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		n.t.Error(err)
		return
	}
	ended := make(chan struct{})
	n.cmd, n.ended = cmd, ended
	go func() {
		_ = cmd.Wait() // it is killed, or says why not in its log
		close(ended)
	}()
}

// signal sends the program a signal. After SIGKILL it is gone.
func (n *node) signal(s os.Signal) {
	n.mu.Lock()
	cmd, ended := n.cmd, n.ended
	n.mu.Unlock()
	_ = cmd.Process.Signal(s) // it may have ended
	if s == os.Kill {
		<-ended
	}
}

// nobody is an address on the bridge that no cable ends at.
const nobody = "02:00:00:00:00:99"

// cut lets nothing that a node sends arrive at another, and says nothing of it to
// either: the kernel is told of a neighbour that is not there.
func (n *node) cut(from *node) {
	n.ip("-n", n.name, "neighbour", "replace", from.address, "lladdr", nobody, "dev", "cable", "nud", "permanent")
}

// mend undoes every cut of what the node sends, and puts its cable back.
func (n *node) mend() {
	n.ip("-n", n.name, "neighbour", "flush", "dev", "cable", "nud", "permanent")
	n.ip("link", "set", "to-"+n.name, "up")
}

// pull takes the node's cable out at the bridge.
func (n *node) pull() { n.ip("link", "set", "to-"+n.name, "down") }
