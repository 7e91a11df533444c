// SPDX-License-Identifier: Apache-2.0

package mdevctl

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestHelp: every command has help, on standard output, with each of its flags.
func TestHelp(t *testing.T) {
	ask := func(args ...string) (string, int) {
		var stdout, stderr bytes.Buffer
		code := Run(context.Background(), "mdevctl", args, System{Version: "1.2", Stdout: &stdout, Stderr: &stderr})
		return stdout.String(), code
	}
	overview, code := ask("--help")
	if again, _ := ask("help"); code != 0 || again != overview {
		t.Errorf("exit code %d, %s", code, overview)
	}
	for _, c := range commands() {
		text, code := ask(c.name, "--help")
		if code != 0 || c.hidden == strings.Contains(overview, "  "+c.name+" ") {
			t.Errorf("%s: exit code %d; hidden %t", c.name, code, c.hidden)
		}
		for _, f := range c.flags {
			if !strings.Contains(text, "--"+f.name) || f.about == "" {
				t.Errorf("%s: the help lacks --%s:\n%s", c.name, f.name, text)
			}
		}
		if again, code := ask("help", c.name); code != 0 || again != text {
			t.Errorf("help %s: exit code %d, %s", c.name, code, again)
		}
	}
	if text, code := ask("-V"); code != 0 || text != "mdevctl 1.4.0 (Kindred 1.2)\n" {
		t.Errorf("version: exit code %d, %q", code, text)
	}
	for _, bad := range [][]string{{}, {"help", "nonsense"}, {"help", "list", "x"}, {"--nonsense"}} {
		if text, code := ask(bad...); code != 2 || text != "" {
			t.Errorf("%q: exit code %d, %q", bad, code, text)
		}
	}
}

// TestCompletionExpands: nothing; what a type is named is text.
func TestCompletionExpands(t *testing.T) {
	dir := t.TempDir()
	program := "#!/bin/sh\nprintf 'card\\n  t-1\\n  t-$(touch %s/ran)\\n  u-1\\n' " + dir + "\n"
	if err := os.WriteFile(dir+"/mdevctl", []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", `. ../../packaging/completion/mdevctl; COMP_WORDS=(mdevctl start -t t-); COMP_CWORD=3; _kindred_mdevctl mdevctl t- -t; printf '%s\n' "${COMPREPLY[@]}"`)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "t-1\n") || strings.Contains(string(out), "u-1") || !strings.Contains(string(out), `\$`) {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(dir + "/ran"); err == nil {
		t.Error("what the type is named was run")
	}
}

// TestCompletion: the completion knows every command and flag, and no other.
func TestCompletion(t *testing.T) {
	data, err := os.ReadFile("../../packaging/completion/mdevctl")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commands() {
		if c.hidden {
			continue
		}
		_, after, ok := strings.Cut(string(data), "\t\t"+c.name+`) flags="`)
		line, _, _ := strings.Cut(after, `"`)
		var want []string
		for _, f := range c.flags {
			want = append(want, "--"+f.name)
		}
		if got := strings.Fields(line); !ok || !slices.Equal(got, want) {
			t.Errorf("%s: completed are %q, there are %q", c.name, got, want)
		}
	}
	if want := `"` + strings.Join(Commands(), " ") + " --help --version"; !strings.Contains(string(data), want) {
		t.Errorf("the commands are not %s", want)
	}
}

// TestRuleName: a kernel device's name, which a user may have chosen (a network
// interface's may have any letter but a space, a colon and a slash, and udev
// puts slashes for exclamation marks), is one argument in the udev rule's
// command, and no part of a shell's text.
func TestRuleName(t *testing.T) {
	data, err := os.ReadFile("../../packaging/udev/60-mdevctl.rules")
	if err != nil {
		t.Fatal(err)
	}
	_, run, _ := strings.Cut(string(data), `RUN+="`)
	run, _, _ = strings.Cut(run, "\"\n")
	dir := t.TempDir()
	stub := dir + "/stub"
	if err := os.WriteFile(stub, []byte("#!/bin/sh\nprintf '%s|' \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mtty", "0000:41:00.0", "../../tmp/e;touch${IFS}evil;", "$(touch${IFS}evil)", "`touch${IFS}evil`", "*", `a"b`} {
		// As udev does: \" in a value is ", then names are put in, then it is split.
		const dollar = "\x00"
		line := strings.NewReplacer(`\"`, `"`, "$$", dollar, "%k", name, "$kernel", name, "/usr/bin/kindred", stub, "logger -t kindred", "cat").Replace(run)
		line = strings.ReplaceAll(line, dollar, "$")
		before, text, _ := strings.Cut(line, " '")
		text, after, closed := strings.Cut(text, "' ")
		if !closed {
			t.Fatalf("%s: the name is in the text of the shell: %s", name, line)
		}
		cmd := exec.Command(strings.Fields(before)[0], slices.Concat(strings.Fields(before)[1:], []string{text}, strings.Fields(after))...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if want := "mdevctl|start-parent-mdevs|" + name + "|"; err != nil || string(out) != want {
			t.Errorf("%s ran %q, %v; want %q", line, out, err, want)
		}
	}
	if _, err := os.Stat(dir + "/evil"); err == nil {
		t.Error("a name was a command")
	}
}

// TestLibvirtsCalls: the flags in the order and the form in which libvirt gives
// them (src/node_device/node_device_driver.c of 9.0 to 11.3) are understood.
func TestLibvirtsCalls(t *testing.T) {
	const u = "d069d019-36ea-4111-8f0a-8c9a70e21366"
	for _, call := range []string{
		"list --dumpjson --defined", "list --dumpjson",
		"define --parent=0000:00:02.0 --jsonfile=/dev/stdin", "define --parent=0000:00:02.0 --jsonfile=/dev/stdin --uuid=" + u,
		"start --parent=0000:00:02.0 --jsonfile=/dev/stdin", "start --parent=0000:00:02.0 --jsonfile=/dev/stdin --uuid=" + u, "start --uuid=" + u, "start -u " + u,
		"stop --uuid=" + u, "stop -u " + u, "undefine --uuid=" + u, "undefine -u " + u, "modify --uuid " + u + " --auto", "modify --uuid " + u + " --manual",
		"modify --parent=0000:00:02.0 --jsonfile=/dev/stdin --uuid=" + u, "modify --parent=0000:00:02.0 --jsonfile=/dev/stdin --uuid=" + u + " --defined --live", "modify --parent=0000:00:02.0 --jsonfile=/dev/stdin --uuid=" + u + " --live",
	} {
		args := strings.Fields(call)
		commands := commands()
		i := slices.IndexFunc(commands, func(c *command) bool { return c.name == args[0] })
		if _, err := commands[i].parse(args[1:]); err != nil {
			t.Errorf("%s: %v", call, err)
		}
	}
}
