// SPDX-License-Identifier: Apache-2.0

//go:build linux

package mdevctl_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kindred/definition/mdevctl"
)

// TestMain makes this program be mdevctl when a test starts it as that.
func TestMain(m *testing.M) {
	if root := os.Getenv("KINDRED_TEST_ROOT"); root != "" {
		os.Exit(mdevctl.Run(context.Background(), "mdevctl", os.Args[1:], mdevctl.System{Root: root, Stdout: os.Stdout, Stderr: os.Stderr}))
	}
	os.Exit(m.Run())
}

// changing are the system calls by which a file or directory changes.
var changing = []string{"openat", "mkdirat", "write", "pwrite64", "ftruncate", "fsync", "fdatasync", "renameat", "renameat2", "linkat", "unlinkat", "fchmod", "fchmodat", "close"}

// TestKilled: killed before any one of the system calls that change files, a
// command leaves the definition as it was or as it is to be, whole; the next
// one does what it is asked for and leaves nothing else.
func TestKilled(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is needed to find and to break off system calls (Debian's package strace)")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	before, after := config("a-1", "manual"), config("a-1", "auto")
	const at = " -u " + u1 + " -p " + card1
	for _, c := range []struct {
		command, again string
		was, is        string // the file's content, "" for none
	}{
		{"define" + at + " -t a-1", "define" + at + " -t a-1", "", before},
		{"modify" + at + " --auto", "modify" + at + " --auto", before, after},
		{"undefine" + at, "undefine" + at, before, ""},
	} {
		machine := func() string {
			m := newMachine()
			if c.was != "" {
				m.define(card1, u1, c.was)
			}
			return m.write(t)
		}
		traced := func(root string, flags ...string) error {
			cmd := exec.Command(strace, append(append([]string{"-f", "-qq", "-o", filepath.Join(root, "trace")}, flags...), append([]string{self}, strings.Fields(c.command)...)...)...)
			cmd.Env = append(os.Environ(), "KINDRED_TEST_ROOT="+root, "GOMAXPROCS=1")
			return cmd.Run()
		}
		root := machine()
		if err := traced(root, "-e", "trace="+strings.Join(changing, ",")); err != nil {
			t.Skipf("strace cannot trace here: %v", err)
		}
		counts := map[string]int{}
		data, err := os.ReadFile(filepath.Join(root, "trace"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			for _, name := range changing {
				if strings.Contains(line, " "+name+"(") {
					counts[name]++
				}
			}
		}
		killed := 0
		for name, n := range counts {
			for i := 1; i <= n; i++ {
				root := machine()
				if traced(root, "-e", "trace="+name, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", name, i)) != nil {
					killed++
				}
				what := fmt.Sprintf("%s, killed at %s %d", c.command, name, i)
				got := content(t, root)
				if got != c.was && got != c.is {
					t.Errorf("%s: the file is %q", what, got)
				}
				if a := ask(t, root, []string{"list -d"}, nil)[0]; a.code != 0 || a.stderr != "" {
					t.Errorf("%s: list says %d, %q", what, a.code, a.stderr)
				}
				a := ask(t, root, []string{c.again}, nil)[0]
				if done := got == c.is; !done && a.code != 0 || content(t, root) != c.is {
					t.Errorf("%s: again: exit code %d, %q; the file is %q", what, a.code, a.stderr, content(t, root))
				}
				if left, _ := filepath.Glob(filepath.Join(root, "etc/mdevctl.d", card1, ".*")); len(left) > 0 {
					t.Errorf("%s: left are %q", what, left)
				}
			}
		}
		t.Logf("%s: killed %d times", c.command, killed)
		if killed < 5 {
			t.Errorf("%s was killed %d times: the trace does not show what it does", c.command, killed)
		}
	}
}

// content is the definition's file, "" when there is none.
func content(t *testing.T, root string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "etc/mdevctl.d", card1, u1))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(data)
}
