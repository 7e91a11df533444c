// SPDX-License-Identifier: Apache-2.0

//go:build linux

package mdevctl_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindred/definition"
)

// kernel is a Changer that does on a tree what the kernel would.
type kernel struct {
	root    string
	refuses error
}

func (k kernel) Start(_ context.Context, d *definition.Definition) error {
	if k.refuses != nil {
		return k.refuses
	}
	dir := filepath.Join(k.root, devices, d.Parent, d.UUID)
	return errors.Join(os.MkdirAll(dir, 0o755),
		os.Symlink("../mdev_supported_types/"+d.Type, dir+"/mdev_type"),
		os.Symlink("../../../../"+devices+d.Parent+"/"+d.UUID, filepath.Join(k.root, "sys/bus/mdev/devices", d.UUID)))
}

func (k kernel) Stop(_ context.Context, uuid string) error {
	if k.refuses != nil {
		return k.refuses
	}
	link := filepath.Join(k.root, "sys/bus/mdev/devices", uuid)
	dir, err := filepath.EvalSymlinks(link)
	return errors.Join(err, os.RemoveAll(dir), os.Remove(link))
}

// logs makes a script that writes down how it was called, and then does more.
func logs(name, more string) string {
	return `{ echo "` + name + ` $*"; cat; echo; } >>"${0%/*}/../../../log"
while [ $# -gt 0 ]; do case $1 in -t) type=$2;; -e) event=$2;; -a) action=$2;; -s) state=$2;; -p) parent=$2;; esac; shift 2; done
` + more
}

// calls is what the scripts of a tree wrote down, of both directories.
func calls(t *testing.T, root string) string {
	t.Helper()
	var all string
	for _, name := range []string{"usr/lib/log", "etc/log", "usr/lib/mdevctl/log", "etc/mdevctl.d/log"} {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err == nil {
			all += string(data)
			os.Remove(filepath.Join(root, name))
		}
	}
	return strings.ReplaceAll(all, "\n\n", "\n")
}

const (
	oldCallouts  = "etc/mdevctl.d/scripts.d/callouts"
	oldNotifiers = "etc/mdevctl.d/scripts.d/notifiers"
	newCallouts  = "usr/lib/mdevctl/scripts.d/callouts"
	newNotifiers = "usr/lib/mdevctl/scripts.d/notifiers"
)

const versionedOfA = `[ "$type" = a-1 ] || exit 2
case $event-$action in
get-capabilities) echo '{"supports":{"version":2,"actions":["start","stop","define","undefine","modify","attributes","capabilities","later"],"events":["get","pre","post","live","never"]}}';;
get-attributes) echo '[{"z":"1"},{"y":"2"}]';;
esac
exit 0`

const plainOfB = `[ "$type" = b-1 ] || exit 2
[ "$event" = get ] && printf '[{"plain":"é"}]'
echo "something for the log" >&2
exit 0`

// TestCallouts: scripts are called as mdevctl 1.4.0 calls them, one after the
// other, with the same words on their command lines and standard inputs.
func TestCallouts(t *testing.T) {
	scripts := func() *machine {
		return writable().device(card2, "b-1", u3).
			script(newCallouts, "20-a", logs("20-a", versionedOfA)).script(newCallouts, "10-b", logs("10-b", plainOfB)).
			script(newNotifiers, "all", logs("notifier", "exit 1"))
	}
	sequence := []string{
		"list -v -p " + card1, "list --dumpjson -u " + u3, "define -u " + u1 + " -p " + card1 + " -t a-1", "define -u " + u4, "define -u " + u3 + " -a", "define -u " + u2 + " -p " + card2 + " -t b-9",
		"modify -u " + u1 + " -a", "list -dv", "modify -u " + u4 + " --live --jsonfile FILE", "modify -u " + u4 + " --live --defined --jsonfile FILE", "modify -u " + u3 + " --live --jsonfile FILE",
		"undefine -u " + u1, "undefine -u " + u3, "modify -u " + u1 + " -p " + card1 + " --jsonfile FILE", "modify -u " + u1 + " -p " + card1 + " --defined --jsonfile FILE", "list -dv",
	}
	one := func(ask func(root string, command []string) []answer) string {
		m := scripts()
		m.files["definition.json"] = `{"start":"auto","attrs":[{"b":"2"}],"mdev_type":"a-1"}`
		root := m.write(t)
		var b strings.Builder
		for _, c := range sequence {
			a := ask(root, []string{strings.ReplaceAll(c, "FILE", root+"/definition.json")})
			a[0].args, a[0].stdout = c, strings.TrimRight(a[0].stdout, "\n") // 1.4.0 has no empty line at the end
			b.WriteString(render(a))
			for line := range strings.Lines(calls(t, root)) {
				// Before a live change mdevctl asks for attributes that it then
				// does not use.
				if !strings.Contains(c, "--live") || !strings.Contains(line, " -e get ") && !strings.Contains(line, "provides") {
					b.WriteString(line)
				}
			}
		}
		return b.String() + definitions(t, root)
	}
	want := recorded(t, "callouts", func() string {
		if *newer == "" {
			t.Skip("-newer says which mdevctl 1.4 to record from")
		}
		return one(func(root string, command []string) []answer { return askNewer(t, *newer, root, command) })
	})
	got := one(func(root string, command []string) []answer { return ask(t, root, command, kernel{root: root}) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mdevctl 1.4.0 (-) and ours (+) differ:\n%s", diff)
	}
}

// TestStartStop: start and stop go through the machine's changer between their
// scripts, and say what they were told.
func TestStartStop(t *testing.T) {
	m := writable().define(card2, u2, config("b-1", "auto", `"x": "1"`)).define(card1, u2, config("a-1", "manual")).define(card2, u3, config("b-1", "manual")).
		script(oldCallouts, "all", logs("all", "exit 0"))
	m.files["definition.json"] = config("b-1", "manual", `"later": "1"`)
	root := m.write(t)
	k := kernel{root: root}
	for _, step := range []struct {
		args   string
		code   int
		stdout string // or the beginning of one
		stderr string // in it
	}{
		{"start", 2, "", "--uuid or --parent is needed"},
		{"start -u " + u1, 1, "", "is not defined"},
		{"start -u " + u1 + " -t b-1", 1, "", "no parent is given"},
		{"start -u " + u1 + " -p " + card2, 1, "", "no type is given"},
		{"start -u " + u1 + " --jsonfile " + root + "/definition.json", 1, "", "--jsonfile needs --parent"},
		{"start -u " + u1 + " -p " + card2 + " --jsonfile " + root + "/definition.json", 0, "", ""},
		{"start -u " + u2, 1, "", "defined on several parents (" + card1 + ", " + card2 + ")"},
		{"start -u " + u2 + " -p " + card2 + " -t a-1", 1, "", "is defined on " + card2 + " as b-1"},
		{"start -u " + strings.ToUpper(u2) + " -p " + card2, 0, "", ""},
		{"list", 0, u4 + " " + card1 + " a-1 manual\n" + u1 + " " + card2 + " b-1 manual\n" + u2 + " " + card2 + " b-1 auto (defined)\n\n", ""},
		{"stop -u " + u1, 0, "", ""},
		{"stop -u " + u1, 1, "", "is not running"},
		{"stop", 2, "", "--uuid is needed"},
		{"start-parent-mdevs " + card2, 0, "", ""},
		{"list -p " + card2, 0, u2 + " " + card2 + " b-1 auto (defined)\n\n", ""},
		{"stop -u " + u2, 0, "", ""},
		{"start-parent-mdevs nowhere", 0, "", ""},
		{"start-parent-mdevs " + card2, 0, "", ""},
		{"list -p " + card2, 0, u2 + " " + card2 + " b-1 auto (defined)\n\n", ""},
	} {
		a := ask(t, root, []string{step.args}, k)[0]
		if a.code != step.code || a.stdout != step.stdout || !strings.Contains(a.stderr, step.stderr) || step.stderr == "" && a.stderr != "" {
			t.Errorf("%s: exit code %d, %q, %q; want %d, %q, %q", step.args, a.code, a.stdout, a.stderr, step.code, step.stdout, step.stderr)
		}
	}
	made := ask(t, root, []string{"start -p " + card1 + " -t a-1"}, k)[0]
	if id, err := definition.ParseUUID(strings.TrimSuffix(made.stdout, "\n")); err != nil || id+"\n" != made.stdout {
		t.Errorf("start without a UUID prints %q", made.stdout)
	}
	refused := kernel{root, errors.New("the kernel does not want to")}
	calls(t, root)
	for args, want := range map[string]string{"start -u " + u3: "Error: the kernel", "stop -u " + u4: "Error: the kernel"} {
		if a := ask(t, root, []string{args}, refused)[0]; a.code != 1 || !strings.HasPrefix(a.stderr, want) {
			t.Errorf("%s: exit code %d, %q", args, a.code, a.stderr)
		}
	}
	if said := calls(t, root); strings.Count(said, "-e post -a start -s failure") != 1 || strings.Count(said, "-e post -a stop -s failure") != 1 {
		t.Errorf("the callout was told\n%s", said)
	}
	ask(t, root, []string{"undefine -u " + u2, "define -u " + u2 + " -p " + card2 + " -t b-1 -a"}, k)
	ask(t, root, []string{"stop -u " + u2}, k)
	if a := ask(t, root, []string{"start-parent-mdevs " + card2}, refused)[0]; a.code != 0 || !strings.Contains(a.stderr, "was not started: the kernel") {
		t.Errorf("exit code %d, %q", a.code, a.stderr)
	}
}

// TestRefusingCallout: one that does not allow an action keeps it from being
// done, unless it is forced.
func TestRefusingCallout(t *testing.T) {
	root := writable().script(oldCallouts, "no", "[ $4 != pre ] || { echo 'not today' >&2; exit 3; }").write(t)
	a := ask(t, root, []string{"define -u " + u1 + " -p " + card1 + " -t a-1", "list -d", "define -f -u " + u1 + " -p " + card1 + " -t a-1", "list -d"}, nil)
	if a[0].code != 1 || !strings.Contains(a[0].stderr, "no: not today") || !strings.Contains(a[0].stderr, "failed with code 3") || a[1].stdout != "\n" {
		t.Errorf("%+v", a[:2])
	}
	if a[2].code != 0 || !strings.Contains(a[2].stderr, "define is forced") || a[3].stdout == "\n" {
		t.Errorf("%+v", a[2:])
	}
}

// TestNoCalloutForText: what a plain list prints no callout knows, so none runs.
func TestNoCalloutForText(t *testing.T) {
	root := writable().script(newCallouts, "a", logs("a", "exit 0")).write(t)
	for args, want := range map[string]int{"list": 0, "list -d": 0, "list -dv": 0, "list -d --dumpjson": 0, "types": 0, "list -v": 1, "list --dumpjson": 1} {
		ask(t, root, []string{args}, nil)
		if got := strings.Count(calls(t, root), "-e get"); got != want {
			t.Errorf("%s: %d scripts ran, want %d", args, got, want)
		}
	}
}
