// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"fmt"

	"kindred/lab/internal/truth"
)

// provedPage is the table for people: pairs of one type, or of types declared
// equivalent, by source and target.
func provedPage(table *truth.Table, runs map[string]map[[2]string]told) []byte {
	var out bytes.Buffer
	out.WriteString(`# What proofs settled

Made on a real kernel by ` + "`KINDRED_LAB=1 go test ./lab -run TestProofs -update`" + `: the sample driver's catalogs without their epochs, so that nothing about two builds is
known that was learned by trying. Each state was recorded once on its own build (` + "`kindred stream record`" + `) and replayed on every other (` + "`kindred stream replay`" + `).
"did" is what the driver did by system calls alone ([truth](../lab/driver/truth.md)); the others are what Kindred says before any proof and after. Hidden: types
say nothing of themselves; described: they publish versions and features. Pairs of other types are incompatible throughout and are left out, and so are the pairs of
a build with itself that work and are compatible.

| from | to | did | hidden | described | why (hidden) |
| --- | --- | --- | --- | --- | --- |
`)
	for _, p := range table.Pairs {
		key := [2]string{p.From, p.To}
		h, d := runs["hidden"][key], runs["described"][key]
		if h.why == "type.different" || p.From == p.To && works(p) {
			continue
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %s | %s |\n", p.From, p.To, did(p), h.text(), d.text(), h.why)
	}
	return out.Bytes()
}

func (t told) text() string {
	if t.before == t.after {
		return t.after.String()
	}
	return t.before.String() + " → " + t.after.String()
}

func did(p truth.Pair) string {
	switch {
	case works(p):
		return "works"
	case p.Outcome != truth.Accepted:
		return p.Outcome
	}
	return "taken, wrong"
}
