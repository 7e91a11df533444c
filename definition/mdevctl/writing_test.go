// SPDX-License-Identifier: Apache-2.0

//go:build linux

package mdevctl_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sequences are commands that change definitions, one after the other on one
// machine. FILE stands for a definition in a file.
func sequences() map[string][]string {
	at := " -u " + u1 + " -p " + card1
	return map[string][]string{
		"define": {
			"define -u " + u1 + " -p " + card1 + " -t a-1", "define --uuid=" + u2 + " --parent=" + card2 + " --type=b-1 --auto", "define -u " + u1 + " -p " + card2 + " -t b-1",
			"define -u " + u1 + " -p " + card1 + " -t a-1", // again
			"define -u " + u3, "define -u " + u3 + " -p " + card1, "define -u " + u3 + " -t a-1", "define -p " + card1, "define -t x", "define -u " + u4, // u4 runs
			"define -u " + u3 + " -p new:parent -t x-1", "define -u " + strings.ToUpper(u3) + " -p " + card2 + " -t b-1 -a", "list -d", "list -d --dumpjson",
		},
		"define from a file": {
			"define -u " + u1 + " -p " + card1 + " --jsonfile FILE", "define -u " + u1 + " -p " + card1 + " --jsonfile=FILE", "define -u " + u2 + " --jsonfile FILE",
			"define -u " + u2 + " -p " + card2 + " --jsonfile FILE -t x", "define -u " + u2 + " -p " + card2 + " --jsonfile FILE --auto", "define -u " + u2 + " -p " + card2 + " --jsonfile missing",
			"list -dv",
		},
		"running": {"define -u " + u4, "list -dv", "list -v", "list", "define -u " + u4 + " -p " + card2, "define -u " + u4 + " -p " + card1 + " -t a-9", "list -d"},
		"modify": {
			"define" + at + " -t a-1", "modify" + at, "modify" + at + " -a", "modify" + at + " -m", "modify" + at + " -t a-2", "modify" + at + " --auto --manual",
			"modify -u " + u1 + " --addattr one --value 1", "modify -u " + u1 + " --addattr=two --value=2", "modify -u " + u1 + " --addattr zero --value 0 -i 0", "modify -u " + u1 + " --addattr end --value e --index 3",
			"modify -u " + u1 + " --addattr far --value f --index 9", "modify -u " + u1 + " --delattr --index 1", "modify -u " + u1 + " --delattr --index 9", "modify -u " + u1 + " --delattr", "list -dv",
			"modify -u " + u1 + " --addattr x", "modify -u " + u1 + " --value x", "modify -u " + u1 + " --delattr --value x", "modify -u " + u1 + " -a --index 1",
			"modify -u " + u1 + " --delattr", "modify -u " + u1 + " --delattr", "modify -u " + u1 + " --delattr", "modify -u " + none + " -a", "modify -u " + u1 + " -p " + card2 + " -a", "modify -a", "modify -u " + u1 + " --manual --addattr x --value y", "modify -u " + u1 + " --addattr x --value y --delattr", "modify -u " + u1 + " -t a-3 --delattr", "modify -u " + u1 + " -i 99999999999", "list -dv",
		},
		"two parents": {
			"define" + at + " -t a-1", "define -u " + u1 + " -p " + card2 + " -t b-1", "modify -u " + u1 + " -a", "modify -u " + u1 + " -a -p " + card2, "undefine -u " + u1 + " -p nowhere",
			"undefine -u " + u1 + " -p " + card1, "list -d", "define" + at + " -t a-1", "undefine -u " + u1, "list -d", "undefine -u " + u1, "undefine", "undefine -u 1",
		},
	}
}

func writable() *machine {
	return newMachine().parent(card1, "a").parent(card2, "b").typ(card1, "a-1", 3, "one", "").typ(card2, "b-1", 3, "two", "").device(card1, "a-1", u4)
}

// onOne runs a sequence on a new machine and appends the files it led to.
func onOne(t *testing.T, sequence []string, ask func(root string, commands []string) []answer) string {
	m := writable()
	m.files["definition.json"] = `{"start":"auto","attrs":[{"b":"2"},{"a":"é\"/\\\/\u0041"}],"mdev_type":"a-1"}`
	root := m.write(t)
	commands := slices.Clone(sequence)
	for i := range commands {
		commands[i] = strings.ReplaceAll(commands[i], "FILE", root+"/definition.json")
	}
	text := render(ask(root, commands)) + definitions(t, root)
	return strings.ReplaceAll(text, root+"/definition.json", "FILE")
}

// TestWriting: what define, modify and undefine print, their exit codes and the
// files they leave are those of mdevctl 1.2.0, byte for byte.
func TestWriting(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(sequences())) {
		t.Run(name, func(t *testing.T) {
			real := func() string {
				theRealOne(t)
				return onOne(t, sequences()[name], func(root string, commands []string) []answer { return askMdevctl(t, root, commands) })
			}
			want := recorded(t, "writing "+name, real)
			if diff := cmp.Diff(want, onOne(t, sequences()[name], func(root string, commands []string) []answer { return ask(t, root, commands, nil) })); diff != "" {
				t.Errorf("mdevctl 1.2.0 (-) and ours (+) differ:\n%s", diff)
			}
			if diff := cmp.Diff(want, real()); diff != "" {
				t.Errorf("recorded (-) and mdevctl (+) differ:\n%s", diff)
			}
		})
	}
}
