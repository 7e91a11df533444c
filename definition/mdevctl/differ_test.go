// SPDX-License-Identifier: Apache-2.0

//go:build linux

package mdevctl_test

import (
	"bytes"
	"context"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindred/definition/mdevctl"
)

// chosen is a machine on which mdevctl 1.2.0 answers a command not at all, and
// ours does; docs/mdevctl.md says how.
type chosen struct {
	machine *machine
	command string
	code    int    // mdevctl's
	warning string // ours
}

func differing() map[string]chosen {
	two := func() *machine {
		return newMachine().parent(card1, "a").parent(card2, "b").typ(card1, "a-1", 3, "one", "").typ(card2, "b-1", 3, "two", "").typ(card2, "b-2", 3, "three", "").
			device(card1, "a-1", u1).device(card2, "b-1", u2).
			define(card1, u1, config("a-1", "auto")).define(card2, u2, config("b-1", "manual"))
	}
	without := func(name string) *machine {
		m := two()
		delete(m.files, name)
		delete(m.links, name)
		return m
	}
	unready := two()
	unready.dirs = slices.DeleteFunc(unready.dirs, func(d string) bool { return strings.HasPrefix(d, devices+card2) })
	for name := range maps.Clone(unready.files) {
		if strings.HasPrefix(name, devices+card2+"/mdev_supported_types") {
			delete(unready.files, name)
		}
	}
	binary := two()
	binary.files[devices+card2+"/mdev_supported_types/b-1/name"] = "\xff\n"
	const typ = devices + card2 + "/mdev_supported_types/b-1/"
	noScripts := two()
	noScripts.dirs = slices.DeleteFunc(noScripts.dirs, func(d string) bool { return strings.Contains(d, "scripts.d") })
	bad := func(content string) chosen {
		return chosen{two().define(card1, u3, content), "list -d", 1, "/etc/mdevctl.d/" + card1 + "/" + u3 + ": "}
	}
	panics := func(content string) chosen {
		c := bad(content)
		c.code = 101
		return c
	}
	return map[string]chosen{
		"file is no JSON":        bad("{"),
		"file is empty":          bad(""),
		"file has more":          bad(config("a-1", "auto") + "x"),
		"file is an array":       bad("[]"),
		"file lacks the type":    bad(`{"start": "auto"}`),
		"file lacks the start":   bad(`{"mdev_type": "a-1"}`),
		"attributes are text":    bad(`{"mdev_type": "a-1", "start": "auto", "attrs": "x"}`),
		"attribute is a number":  panics(`{"mdev_type": "a-1", "start": "auto", "attrs": [{"x": 1}]}`),
		"attribute has two keys": bad(`{"mdev_type": "a-1", "start": "auto", "attrs": [{"x": "1", "y": "2"}]}`),
		"attribute has none":     bad(`{"mdev_type": "a-1", "start": "auto", "attrs": [{}]}`),
		"file is binary":         bad("\xff\xfe"),
		"type is a number":       panics(`{"mdev_type": 5, "start": "auto"}`),
		"parent without types":   {unready, "types", 1, "/" + devices + card2 + "/mdev_supported_types: "},
		"type without room":      {without(typ + "available_instances"), "types --dumpjson", 1, "/" + typ + "available_instances: "},
		"type without an API":    {without(typ + "device_api"), "types", 1, "/" + typ + "device_api: "},
		"name is binary":         {binary, "types", 1, "/" + typ + "name: "},
		"defined, half removed":  {without(devices + card2 + "/" + u2 + "/mdev_type"), "list -d", 1, "/" + devices + card2 + "/" + u2 + "/mdev_type: "},
		"no script directories":  {noScripts, "list", 1, ""},
	}
}

// TestDiffering: where mdevctl fails as a whole, ours answers with what can be
// read and warns of the rest by its path.
func TestDiffering(t *testing.T) {
	var all strings.Builder
	for _, name := range slices.Sorted(maps.Keys(differing())) {
		c := differing()[name]
		a := ask(t, c.machine.write(t), []string{c.command}, nil)
		all.WriteString("# " + name + "\n" + render(a))
		if a[0].code != 0 || !strings.Contains(a[0].stderr, c.warning) || c.warning == "" && a[0].stderr != "" {
			t.Errorf("%s: exit code %d, standard error %q; want 0 and %q", name, a[0].code, a[0].stderr, c.warning)
		}
	}
	if diff := cmp.Diff(recorded(t, "differing", all.String), all.String()); diff != "" {
		t.Errorf("recorded (-) and printed (+) differ:\n%s", diff)
	}
}

// TestDifferingForAReason: mdevctl fails there indeed.
func TestDifferingForAReason(t *testing.T) {
	theRealOne(t)
	for name, c := range differing() {
		if a := askMdevctl(t, c.machine.write(t), []string{c.command})[0]; a.code != c.code || a.stdout != "" {
			t.Errorf("%s: mdevctl answers with exit code %d, %q; want %d and nothing", name, a.code, a.stdout, c.code)
		}
	}
}

// TestAskedByName: what was asked for alone and cannot be read is a failure, of
// both programs.
func TestAskedByName(t *testing.T) {
	m := newMachine().define(card1, u1, config("a-1", "auto")).define(card1, u3, "{")
	m.link("sys/class/mdev_bus/"+card1, devices+card1)
	m.dirs = append(m.dirs, devices+card1)
	root := m.write(t)
	commands := []string{"list -d -u " + u3, "list -d --dumpjson -u " + u3, "types -p " + card1}
	for _, a := range ask(t, root, commands, nil) {
		if a.code != 1 || a.stdout != "" || !strings.Contains(a.stderr, card1) {
			t.Errorf("%s: exit code %d, %q, %q", a.args, a.code, a.stdout, a.stderr)
		}
	}
	theRealOne(t)
	for _, a := range askMdevctl(t, root, commands) {
		if a.code != 1 {
			t.Errorf("mdevctl %s: exit code %d", a.args, a.code)
		}
	}
}

// TestClosedPipe: a reader that went away is no failure; a full disk is.
func TestClosedPipe(t *testing.T) {
	root := newMachine().parent(card1, "a").typ(card1, "a-1", 3, "one", "").write(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no /dev/full:", err)
	}
	defer full.Close()
	var stderr bytes.Buffer
	sys := mdevctl.System{Root: root, Stdout: w, Stderr: &stderr}
	if code := mdevctl.Run(context.Background(), "mdevctl", []string{"types"}, sys); code != 0 || stderr.Len() > 0 {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
	sys.Stdout = full
	if code := mdevctl.Run(context.Background(), "mdevctl", []string{"types"}, sys); code != 1 || stderr.Len() == 0 {
		t.Errorf("a full disk: exit code %d, %q", code, stderr.String())
	}
}

// TestNamedPipe: a definition that is a pipe does not hang the listing, which
// mdevctl passes over too.
func TestNamedPipe(t *testing.T) {
	root := newMachine().define(card1, u1, config("a-1", "auto")).write(t)
	if out, err := exec.Command("mkfifo", root+"/etc/mdevctl.d/"+card1+"/"+u2).CombinedOutput(); err != nil {
		t.Skipf("no pipe can be made: %v: %s", err, out)
	}
	if a := ask(t, root, []string{"list -d"}, nil)[0]; a.code != 0 || a.stdout != u1+" "+card1+" a-1 auto\n\n" {
		t.Errorf("exit code %d, %q", a.code, a.stdout)
	}
}

// TestLsmdev: lsmdev is list.
func TestLsmdev(t *testing.T) {
	root := newMachine().define(card1, u1, config("a-1", "auto")).write(t)
	var stdout bytes.Buffer
	code := mdevctl.Run(context.Background(), "lsmdev", []string{"-d"}, mdevctl.System{Root: root, Stdout: &stdout, Stderr: &stdout})
	if want := u1 + " " + card1 + " a-1 auto\n\n"; code != 0 || stdout.String() != want {
		t.Errorf("exit code %d, %q; want %q", code, stdout.String(), want)
	}
}
