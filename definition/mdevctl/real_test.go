// SPDX-License-Identifier: Apache-2.0

//go:build linux

package mdevctl_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// answer is what a program said to one command.
type answer struct {
	args   string // separated by blanks
	stdout string
	stderr string
	code   int
}

// covered runs mdevctl on a tree: in a mount namespace of its own the tree's
// sys and definitions are in the place of the machine's, because 1.2.0 knows no
// other root. For each command it leaves what was printed, and the exit code.
const covered = `
root=$1 out=$2
mount --make-rprivate / && mount --bind "$root/sys" /sys && mount --bind "$root/etc/mdevctl.d" /etc/mdevctl.d || exit 99
i=0
while read -r args; do
	mdevctl $args >"$out/$i.out" 2>"$out/$i.err" </dev/null
	echo $? >"$out/$i.code"
	i=$((i+1))
done
`

// theRealOne skips when mdevctl 1.2.0 is not here or cannot be run on trees.
func theRealOne(t *testing.T) {
	t.Helper()
	version, err := exec.Command("mdevctl", "--version").Output()
	if err != nil || strings.TrimSpace(string(version)) != "mdevctl 1.2.0" {
		t.Skipf("mdevctl 1.2.0 is not installed (Debian 12's package mdevctl): %q, %v; what it said is in testdata", version, err)
	}
	if _, err := os.Stat("/etc/mdevctl.d"); err != nil {
		t.Skip("mdevctl 1.2.0 needs its directory /etc/mdevctl.d")
	}
	if out, err := unshare("true").CombinedOutput(); err != nil {
		t.Skipf("mount namespaces cannot be made here (util-linux's unshare, root or user namespaces): %v: %s", err, out)
	}
}

func unshare(argv ...string) *exec.Cmd {
	args := []string{"-m"}
	if os.Geteuid() != 0 {
		args = []string{"-r", "-m"}
	}
	return exec.Command("unshare", append(args, argv...)...)
}

// askMdevctl gives the commands to mdevctl, one after the other.
func askMdevctl(t *testing.T, root string, commands []string) []answer {
	t.Helper()
	out := t.TempDir()
	cmd := unshare("sh", "-c", covered, "sh", root, out)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("run mdevctl on a tree: %v: %s", err, text)
	}
	answers := make([]answer, len(commands))
	for i, args := range commands {
		var text [3]string
		for j, what := range []string{"out", "err", "code"} {
			data, err := os.ReadFile(filepath.Join(out, fmt.Sprintf("%d.%s", i, what)))
			if err != nil {
				t.Fatal(err)
			}
			text[j] = string(data)
		}
		code, err := strconv.Atoi(strings.TrimSpace(text[2]))
		if err != nil {
			t.Fatal(err)
		}
		answers[i] = answer{args, text[0], text[1], code}
	}
	return answers
}

// askNewer gives the commands to a newer mdevctl, which knows other roots.
func askNewer(t *testing.T, program, root string, commands []string) []answer {
	t.Helper()
	answers := make([]answer, len(commands))
	for i, args := range commands {
		cmd := exec.Command(program, strings.Fields(args)...)
		cmd.Env = append(os.Environ(), "MDEVCTL_ENV_ROOT="+root)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		stdout, err := cmd.Output()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		answers[i] = answer{args, string(stdout), stderr.String(), cmd.ProcessState.ExitCode()}
	}
	return answers
}
