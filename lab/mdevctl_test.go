// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
)

// peers are Debian's mdevctl by version, and where in a guest they are put.
var peers = []struct{ version, suite, prefix string }{
	{"1.2.0", "bookworm", "/opt/bookworm"},
	{"1.4.0", "trixie", "/opt/trixie"},
}

// putPeers puts real mdevctls into the guest, beside ours, and returns the
// programs by name.
func putPeers(ctx context.Context, t *testing.T, g *Guest) []string {
	t.Helper()
	installKindred(ctx, t, g)
	sh(ctx, t, g.Client, `ln -s kindred /usr/bin/mdevctl
		mkdir -p /etc/mdevctl.d/scripts.d/callouts /etc/mdevctl.d/scripts.d/notifiers /usr/lib/mdevctl/scripts.d/callouts /usr/lib/mdevctl/scripts.d/notifiers`)
	programs := []string{"mdevctl"}
	for _, p := range peers {
		u, err := PrepareUserland(ctx, "", p.suite, []string{"mdevctl"}, t.Logf)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.PutUserland(ctx, u, p.prefix, "/usr/bin/mdevctl"); err != nil {
			t.Fatal(err)
		}
		name := "/usr/bin/mdevctl-" + p.version
		script := fmt.Sprintf("#!/bin/sh\nexec %[1]s/lib64/ld-linux-x86-64.so.2 --library-path %[1]s/lib/x86_64-linux-gnu:%[1]s/usr/lib/x86_64-linux-gnu %[1]s/usr/bin/mdevctl \"$@\"\n", p.prefix)
		if err := g.Put(ctx, name, 0o755, strings.NewReader(script)); err != nil {
			t.Fatal(err)
		}
		if got := sh(ctx, t, g.Client, name+" --version"); got != "mdevctl "+p.version {
			t.Fatalf("the mdevctl of %s is %q, want %s", p.suite, got, p.version)
		}
		programs = append(programs, name)
	}
	return programs
}

// agree runs a reading command with all programs and wants one answer. 1.4.0
// prints no empty line at the end.
func agree(ctx context.Context, t *testing.T, g *Guest, programs []string, args string) string {
	t.Helper()
	var first string
	for i, p := range programs {
		text := sh(ctx, t, g.Client, p+" "+args)
		if i == 0 {
			first = text
		} else if text != first {
			t.Errorf("%s %s says\n%s\nand %s\n%s", programs[0], args, first, p, text)
		}
	}
	return first
}

// TestMdevctl: on a real kernel each of ours, 1.2.0 and 1.4.0 defines, modifies,
// starts, lists, stops and undefines what another made.
func TestMdevctl(t *testing.T) {
	ctx, a := needLab(t)
	g := bootAll(ctx, t, a, Host{Name: "host-m", Modules: []string{"mtty", "mdpy"}})[0]
	programs := putPeers(ctx, t, g)
	agree(ctx, t, g, programs, "types")
	agree(ctx, t, g, programs, "types --dumpjson")
	reading := func(args, want string) {
		t.Helper()
		if text := agree(ctx, t, g, programs, args); text != want {
			t.Errorf("%s says %q, want %q", args, text, want)
		}
	}
	n := 0
	for i, maker := range programs {
		for j, user := range programs {
			if i > 0 && j > 0 {
				continue // that they get on with each other is theirs to test
			}
			n++
			uuid := fmt.Sprintf("83b8f4f2-509f-382f-3c1e-e6bfe0fa5%03d", n)
			const other = "83b8f4f2-509f-382f-3c1e-e6bfe0fa5999"
			on := func(program string, commands ...string) {
				t.Helper()
				script := program + " " + strings.Join(commands, "\n"+program+" ")
				sh(ctx, t, g.Client, strings.ReplaceAll(script, "-u U", "-u "+uuid))
			}
			t.Logf("%s makes, %s uses", maker, user)
			on(maker, "define -u U -p mtty -t mtty-2")
			on(user, "modify -u U --auto", "start -u U")
			reading("list", uuid+" mtty mtty-2 auto (defined)")
			on(maker, "stop -u U", "modify -u U --manual", "modify -u U --addattr x --value 1", "modify -u U --delattr", "start -u U -p mtty -t mtty-2")
			reading("list -dv", uuid+" mtty mtty-2 manual (active)")
			on(user, "undefine -u U", "define -u U") // as it runs
			reading("list -d --dumpjson -u "+uuid, "{\n  \"mdev_type\": \"mtty-2\",\n  \"start\": \"manual\",\n  \"attrs\": []\n}")
			on(maker, "undefine -u U")
			on(user, "stop -u U")
			// Autostart, of what is to be started with its parent only.
			on(maker, "define -u U -p mdpy -t mdpy-xga --auto", "define -u "+other+" -p mdpy -t mdpy-vga")
			on(user, "start-parent-mdevs mdpy")
			reading("list", uuid+" mdpy mdpy-xga auto (defined)")
			on(maker, "stop -u U")
			on(user, "undefine -u U", "undefine -u "+other)
			reading("list -d", "")
		}
	}
	reading("list --dumpjson", "[]")
}

// TestMdevctlErrors: where the kernel or the other refuses, all refuse, and all
// with mdevctl's exit code; nothing is left.
func TestMdevctlErrors(t *testing.T) {
	ctx, a := needLab(t)
	g := bootAll(ctx, t, a, Host{Name: "host-e", Modules: []string{"mtty", "mdpy"}})[0]
	programs := putPeers(ctx, t, g)
	const u, other = "83b8f4f2-509f-382f-3c1e-e6bfe0fa6001", "83b8f4f2-509f-382f-3c1e-e6bfe0fa6002"
	sh(ctx, t, g.Client, "mdevctl start -u "+u+" -p mtty -t mtty-2; echo '{\"mdev_type\":\"mdpy-xga\",\"start\":\"manual\",\"attrs\":[{\"no_such\":\"1\"}]}' >/tmp/bad.json")
	for _, args := range []string{
		"start -u " + u + " -p mtty -t mtty-2", "start -u " + u + " -p mdpy -t mdpy-xga", "start -u " + other + " -p none -t mtty-2", "start -u " + other + " -p mtty -t none", "start -u " + other + " -p MTTY -t mtty-2",
		"start -u " + other + " -p mdpy --jsonfile /tmp/bad.json", "stop -u " + other, "start -u " + other, "start -p mtty", "undefine -u " + other, "modify -u " + other + " -a",
	} {
		for _, p := range programs {
			r, err := g.Run(ctx, Cmd{Argv: []string{"sh", "-c", p + " " + args}})
			if err != nil {
				t.Fatal(err)
			}
			if r.ExitCode != 1 || len(r.Stdout) > 0 || len(r.Stderr) == 0 {
				t.Errorf("%s %s: exit code %d, %q, %q", p, args, r.ExitCode, r.Stdout, r.Stderr)
			}
			if p == "mdevctl" {
				t.Logf("%s: %s", args, bytes.TrimSpace(r.Stderr))
			}
		}
	}
	if text := agree(ctx, t, g, programs, "list"); text != u+" mtty mtty-2 manual" {
		t.Errorf("there are %q", text)
	}
	// One that is open is not stopped, and the process is named.
	sh(ctx, t, g.Client, `group=$(basename $(readlink /sys/bus/mdev/devices/`+u+`/iommu_group))
		exec 3<>/dev/vfio/$group; sleep 600 >/dev/null 2>&1 &
		while test $(cat /proc/$!/comm) != sleep; do usleep 10000; done`)
	r, err := g.Run(ctx, Cmd{Argv: []string{"mdevctl", "stop", "-u", u}})
	if err != nil {
		t.Fatal(err)
	}
	if r.ExitCode != 1 || !bytes.Contains(r.Stderr, []byte("sleep")) {
		t.Errorf("stopping what is open: exit code %d, %q", r.ExitCode, r.Stderr)
	}
}

// TestRule: the command of the udev rule starts what is defined to start.
func TestRule(t *testing.T) {
	ctx, a := needLab(t)
	rule, err := os.ReadFile("../packaging/udev/60-mdevctl.rules")
	if err != nil {
		t.Fatal(err)
	}
	// As udev reads it: \" is ", and $$ is $.
	_, after, found := strings.Cut(string(rule), `RUN+="/bin/sh -c '`)
	command, _, closed := strings.Cut(after, `' sh %k"`)
	if !found || !closed {
		t.Fatalf("the rule runs nothing:\n%s", rule)
	}
	command = strings.NewReplacer(`\"`, `"`, "$$", "$").Replace(command)
	g := bootAll(ctx, t, a, Host{Name: "host-r", Modules: []string{"mtty"}})[0]
	installKindred(ctx, t, g)
	// udev meets the first parents before the root file system is writable.
	sh(ctx, t, g.Client, "mount -t tmpfs -o ro none /var/lib")
	sh(ctx, t, g.Client, "kindred mdevctl define -u "+movingDevice+" -p mtty -t mtty-1 --auto; kindred mdevctl define -p mtty -t mtty-2 -u "+mdpyDevice)
	r, err := g.Run(ctx, Cmd{Argv: []string{"sh", "-c", command, "sh", "mtty"}})
	if err != nil || r.ExitCode != 0 {
		t.Fatalf("%s: %+v, %v", command, r, err)
	}
	if text := sh(ctx, t, g.Client, "kindred mdevctl list"); text != movingDevice+" mtty mtty-1 auto (defined)" {
		t.Errorf("started are %q", text)
	}
	sh(ctx, t, g.Client, "umount /var/lib; kindred mdevctl stop -u "+movingDevice)
	if text := sh(ctx, t, g.Client, "kindred mdevctl list; find /var/lib/kindred -name '*.json'"); text != "" {
		t.Errorf("left are %q", text)
	}
}
