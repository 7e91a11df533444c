// SPDX-License-Identifier: Apache-2.0

//go:build linux

package mdevctl_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// random is a machine nobody thought of: texts with everything that has to be
// escaped, definitions in any order and form, running or not, under one parent
// or several. It also returns a UUID and a parent to ask for.
func random(r *rand.Rand) (m *machine, uuid, parent string) {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	word := func() string {
		var b strings.Builder
		for range 1 + r.IntN(3) {
			b.WriteString(pick("a", "", "é", `"q"`, `back\`, "\t", "line\nend", "\x01", "\u2028", "😀", " sp ", "0x1f", "/", "\x7f"))
		}
		return b.String()
	}
	m = newMachine()
	types := map[string][]string{"gone": {"x-1"}}
	parents := []string{"gone"}
	for _, p := range []string{card1, card2, "matrix", "0.0.0313", "Zed", "ünï"} {
		if r.IntN(2) == 0 {
			continue
		}
		m.parent(p, "n")
		parents = append(parents, p)
		for _, t := range []string{"n-1", "n-10", "n-2", "B_x", "a.b"} {
			if r.IntN(2) == 0 {
				m.typ(p, t, r.IntN(70000), strings.ReplaceAll(word(), "\n", ""), word()+"\n"+word())
				types[p] = append(types[p], t)
			}
		}
	}
	parent = pick(parents...)
	for i := range 6 {
		uuid = fmt.Sprintf("%08x-%04x-4000-8000-%012x", r.Uint32(), r.IntN(1<<16), i)
		if p := pick(parents...); p != "gone" && len(types[p]) > 0 && r.IntN(2) == 0 {
			m.device(p, pick(types[p]...), uuid)
		}
		for _, p := range parents {
			if r.IntN(3) > 0 {
				continue
			}
			attrs := make([]map[string]string, r.IntN(3))
			for i := range attrs {
				attrs[i] = map[string]string{word(): word()}
			}
			doc := map[string]any{"mdev_type": pick(append(types[p], word())...), "start": pick("auto", "manual", "x"), "attrs": attrs, "zz": []any{1, nil}}
			if r.IntN(4) == 0 {
				delete(doc, "attrs")
			}
			data, err := json.MarshalIndent(doc, "", pick("", " ", "\t"))
			if err != nil {
				panic(err)
			}
			m.define(p, pick(uuid, uuid, uuid, strings.ToUpper(uuid), strings.ReplaceAll(uuid, "-", "")), string(data))
		}
	}
	return m, uuid, parent
}

// TestRandom: on machines nobody thought of, both programs print the same.
func TestRandom(t *testing.T) {
	theRealOne(t)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range 10 {
		m, uuid, parent := random(r)
		root := m.write(t)
		var commands []string
		for _, form := range []string{"list", "list -v", "list --dumpjson", "list -d", "list -d -v", "list -d --dumpjson"} {
			commands = append(commands, form, form+" -u "+uuid, form+" -p "+parent)
		}
		commands = append(commands, "types", "types --dumpjson", "types -p "+parent)
		if diff := cmp.Diff(render(askMdevctl(t, root, commands)), render(ask(t, root, commands, nil))); diff != "" {
			t.Fatalf("seed %d, machine %d: mdevctl (-) and ours (+) differ:\n%s", seed, i, diff)
		}
	}
}
