// SPDX-License-Identifier: Apache-2.0

//go:build linux

package mdevctl_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindred/definition/mdevctl"
)

var (
	update = flag.Bool("update", false, "record in testdata what mdevctl 1.2.0 says, and what we say where we choose to differ")
	newer  = flag.String("newer", "", "with -update, the mdevctl 1.4 `PROGRAM` to record callouts from")
)

// ask gives the commands to ours.
func ask(t *testing.T, root string, commands []string, change mdevctl.Changer) []answer {
	t.Helper()
	answers := make([]answer, len(commands))
	for i, args := range commands {
		var stdout, stderr bytes.Buffer
		code := mdevctl.Run(context.Background(), "mdevctl", strings.Fields(args), mdevctl.System{
			Root: root, Change: change, Version: "test", Stdout: &stdout, Stderr: &stderr,
		})
		answers[i] = answer{args, stdout.String(), stderr.String(), code}
	}
	return answers
}

// render is what is recorded and compared: commands, exit codes, what was printed.
func render(answers []answer) string {
	var b strings.Builder
	for _, a := range answers {
		fmt.Fprintf(&b, "$ mdevctl %s\nexit code %d\n%s|end\n", a.args, a.code, a.stdout)
	}
	return b.String()
}

func recorded(t *testing.T, name string, got func() string) string {
	t.Helper()
	file := filepath.Join("testdata", strings.ReplaceAll(name, " ", "-")+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

const (
	card1 = "0000:41:00.0"
	card2 = "0000:a1:00.0"
	u1    = "11111111-0000-4000-8000-00000000000a"
	u2    = "22222222-0000-4000-8000-00000000000b"
	u3    = "33333333-0000-4000-8000-00000000000c"
	u4    = "44444444-0000-4000-8000-00000000000d"
	none  = "99999999-0000-4000-8000-00000000000f"
)

func config(typ, start string, attrs ...string) string {
	text := "[]"
	if len(attrs) > 0 {
		text = "[\n    {\n      " + strings.Join(attrs, "\n    },\n    {\n      ") + "\n    }\n  ]"
	}
	return fmt.Sprintf("{\n  \"mdev_type\": %q,\n  \"start\": %q,\n  \"attrs\": %s\n}", typ, start, text)
}

// trees are machines whose lists both programs print alike.
func trees() map[string]*machine {
	full := func() *machine {
		return newMachine().parent(card2, "nvidia").parent(card1, "i915").
			typ(card1, "i915-GVTg_V5_4", 2, "GVTg_V5_4", "low_gm_size: 128MB\nhigh_gm_size: 512MB\nfence: 4\nresolution: 1920x1200\nweight: 4").
			typ(card1, "i915-GVTg_V5_8", 0, "", "").
			typ(card2, "nvidia-600", 16, "GRID A10-1Q", "num_heads=1, max_instance=24").
			typ(card2, "nvidia-1148", 4, "GRID \"quoted\" back\\slash", "tab\there, high \u2028 byte é")
	}
	noBus := newMachine()
	noBus.dirs = slices.DeleteFunc(noBus.dirs, func(d string) bool { return strings.HasPrefix(d, "sys/") })
	noBus.dirs = append(noBus.dirs, "sys/class", "sys/bus")
	empty := newMachine().parent("matrix", "vfio_ap")
	driverless := newMachine().parent(card1, "none").typ(card1, "mtty-2", 12, "Dual port serial", "").device(card1, "mtty-2", u1)
	delete(driverless.links, devices+card1+"/driver")
	delete(driverless.links, devices+card1+"/subsystem")
	return map[string]*machine{
		"no bus":         noBus,
		"nothing":        newMachine(),
		"no types":       empty,
		"single":         newMachine().parent(card1, "nvidia").typ(card1, "nvidia-600", 1, "GRID A10-1Q", "one line").device(card1, "nvidia-600", u1),
		"types alone":    full(),
		"several":        full().device(card2, "nvidia-600", u3).device(card1, "i915-GVTg_V5_4", u2).device(card2, "nvidia-1148", u1).device(card1, "i915-GVTg_V5_8", u4),
		"white space":    newMachine().parent(card1, "a").typ(card1, "a-1", 3, "  padded \t", "\n\nbegins and ends with lines\n \n").typ(card1, "a-2", 3, " ", "\n"),
		"defined alone":  full().define(card1, u1, config("i915-GVTg_V5_4", "auto")).define(card2, u2, config("nvidia-600", "manual")),
		"other machine":  newMachine().define("0000:ff:00.0", u1, config("x-1", "auto")),
		"both":           full().device(card1, "i915-GVTg_V5_4", u1).device(card2, "nvidia-600", u2).device(card2, "nvidia-600", u3).define(card1, u1, config("i915-GVTg_V5_4", "auto")).define(card2, u2, config("nvidia-600", "manual")).define(card2, u4, config("nvidia-600", "auto")),
		"attributes":     full().define(card1, u1, config("i915-GVTg_V5_4", "auto", `"b": "2"`, `"a": "1"`, `"b": "3"`)).define(card2, u2, config("nvidia-600", "manual", `"quoted\"name": "line\nend \u0001 \u2028 é \\ /"`)).device(card1, "i915-GVTg_V5_4", u1),
		"two parents":    full().define(card1, u1, config("i915-GVTg_V5_4", "auto")).define(card2, u1, config("nvidia-600", "manual")).device(card2, "nvidia-600", u1),
		"other parent":   full().define(card1, u1, config("i915-GVTg_V5_4", "auto")).device(card2, "nvidia-600", u1),
		"other type":     full().define(card2, u1, config("nvidia-1148", "auto")).device(card2, "nvidia-600", u1),
		"upper case":     full().define(card2, strings.ToUpper(u1), config("nvidia-600", "auto")).device(card2, "nvidia-600", u1).define(card2, strings.ReplaceAll(u2, "-", ""), config("nvidia-600", "manual")),
		"odd files":      full().define(card2, "README", "not a definition").define(card2, u1+".bak", "{}").define(card2, "sub/file", "").define(".", "loose", "x").define(card2, u1, `{"attrs":[],"start":"auto","mdev_type":"nvidia-600"}`).define(card2, u2, "\n{ \"mdev_type\" : \"nvidia-600\", \"start\" : \"no\", \"more\": {\"x\": [1, 2.50, null]} , \"attrs\":null }\n\n").define(card2, u3, `{"mdev_type":"a","mdev_type":"b","start":"manual","start":"auto"}`),
		"driver changed": driverless.parent(card2, "newer").typ(card2, "older-1", 3, "one", "").device(card2, "older-1", u2).define(card2, u2, config("older-1", "auto")),
		"device unnamed": full().device(card2, "nvidia-600", u1).device(card2, "nvidia-600", "not-a-uuid"),
	}
}

// reading are the commands that change nothing, in every form.
func reading() []string {
	var list []string
	for _, defined := range []string{"", " -d"} {
		for _, form := range []string{"", " -v", " --dumpjson", " --verbose --dumpjson"} {
			for _, which := range []string{"", " -u " + u1, " -u " + none, " -p " + card2, " -p nowhere", " -u " + u1 + " -p " + card1, " -u " + strings.ToUpper(u2)} {
				list = append(list, "list"+defined+form+which)
			}
		}
	}
	for _, form := range []string{"", " --dumpjson"} {
		for _, which := range []string{"", " -p " + card1, " --parent=" + card2, " -p nowhere"} {
			list = append(list, "types"+form+which)
		}
	}
	return append(list, "list --defined=x", "list -d -d", "list extra", "list -u 123", "list -p", "types --foo", "list -dvp"+card2, "list --", "nonsense",
		"list -u {"+u1+"}", "list -u urn:uuid:"+u1, "list -u "+strings.ReplaceAll(u1, "-", ""), "start-parent-mdevs", "types -p= --dumpjson")
}

// TestReading: on every tree every command gives, byte for byte, the answer
// that was recorded from mdevctl 1.2.0.
func TestReading(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(trees())) {
		t.Run(name, func(t *testing.T) {
			root := trees()[name].write(t)
			want := recorded(t, name, func() string { theRealOne(t); return render(askMdevctl(t, root, reading())) })
			if diff := cmp.Diff(want, render(ask(t, root, reading(), nil))); diff != "" {
				t.Errorf("mdevctl 1.2.0 (-) and ours (+) differ:\n%s", diff)
			}
		})
	}
}

// TestRecorded: what was recorded is what the mdevctl of this machine says.
func TestRecorded(t *testing.T) {
	theRealOne(t)
	for name, m := range trees() {
		root := m.write(t)
		if diff := cmp.Diff(recorded(t, name, nil), render(askMdevctl(t, root, reading()))); diff != "" && !*update {
			t.Errorf("%s: recorded (-) and mdevctl (+) differ:\n%s", name, diff)
		}
	}
}
