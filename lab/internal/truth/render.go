// SPDX-License-Identifier: Apache-2.0

package truth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// JSON is the table with one line for each entry, so that a change can be read.
func (t *Table) JSON() ([]byte, error) {
	var out bytes.Buffer
	out.WriteString("{\n")
	for i, section := range []struct {
		name  string
		items []any
	}{{"streams", items(t.Streams)}, {"pairs", items(t.Pairs)}, {"cut", items(t.Cut)}} {
		if i > 0 {
			out.WriteString(",\n")
		}
		fmt.Fprintf(&out, "%q: [\n", section.name)
		for j, item := range section.items {
			line, err := json.Marshal(item)
			if err != nil {
				return nil, fmt.Errorf("writing the table: %w", err)
			}
			out.Write(line)
			if j < len(section.items)-1 {
				out.WriteByte(',')
			}
			out.WriteByte('\n')
		}
		out.WriteByte(']')
	}
	out.WriteString("\n}\n")
	return out.Bytes(), nil
}

func items[T any](list []T) []any {
	all := make([]any, len(list))
	for i, item := range list {
		all[i] = item
	}
	return all
}

// Markdown is the table for people.
func (t *Table) Markdown() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, `# What the driver really accepts

Made on a real kernel by `+"`KINDRED_LAB=1 go test ./lab -run TestDriverTruth -update`"+`, with system calls alone, together with truth.json, which has
every one of the %d ordered pairs of the %d types of all builds. A source did work, has commands waiting in a queue where the dialect has P2P, and was
read through PRE_COPY where there is one. Every target is a fresh device; all devices have 4 KiB of scratch, pds 16.

| in a cell | |
| --- | --- |
| ok | every write and RESUMING to STOP succeeded, and a guest sees the same device, before and after it runs on |
| ok, config | the same, but config space differs in what a guest cannot write: QEMU refuses that itself |
| **WRONG** | everything succeeded, and the guest-visible state is another |
| hdr 39 EINVAL | the write of byte 39 was refused, inside what PRE_COPY calls initial |
| 4180 EINVAL | the write of that byte was refused, after it (or the dialect has no such part) |
| stop EINVAL | RESUMING to STOP failed |
| ! | not sticky: after the refused write the rest was taken and STOP succeeded |
| !stop | further writes failed, and STOP succeeded all the same |
| start ENOTTY | the target cannot migrate at all; — the source cannot |

`, len(t.Pairs), len(t.Streams))
	pairs := map[[2]string]Pair{}
	for _, p := range t.Pairs {
		pairs[[2]string{p.From, p.To}] = p
	}
	byDialect, order := t.dialects()
	for _, d := range order {
		fmt.Fprintf(&out, "## %s\n\nA row is a source, a column a target.\n\n| |", d)
		for _, to := range byDialect[d] {
			fmt.Fprintf(&out, " %s |", to)
		}
		out.WriteString("\n| --- |" + strings.Repeat(" --- |", len(byDialect[d])) + "\n")
		for _, from := range byDialect[d] {
			fmt.Fprintf(&out, "| %s |", from)
			for _, to := range byDialect[d] {
				fmt.Fprintf(&out, " %s |", cell(pairs[[2]string{from, to}]))
			}
			out.WriteByte('\n')
		}
		out.WriteByte('\n')
	}
	t.across(&out, byDialect, order, pairs)
	t.cuts(&out)
	t.summary(&out)
	return out.Bytes()
}

func (t *Table) dialects() (map[string][]string, []string) {
	by, order := map[string][]string{}, []string(nil)
	for _, s := range t.Streams {
		if by[s.Dialect] == nil {
			order = append(order, s.Dialect)
		}
		by[s.Dialect] = append(by[s.Dialect], s.Name())
	}
	return by, order
}

func cell(p Pair) string {
	switch {
	case p.Outcome == NoStream:
		return "—"
	case p.Outcome == Accepted && p.State != Equal:
		return "**WRONG**"
	case p.Outcome == Accepted && p.Config != Equal:
		return "ok, config"
	case p.Outcome == Accepted:
		return "ok"
	case p.Where == AtStop || p.Where == AtStart:
		return p.Where + " " + p.Errno
	}
	text := fmt.Sprintf("%d %s", p.Byte, p.Errno)
	if p.Where == InHeader {
		text = "hdr " + text
	}
	switch {
	case p.Stop == "ok" && p.Then == "taken":
		text += " !"
	case p.Stop == "ok":
		text += " !stop"
	}
	return text
}

// across says in a line what all sources of a dialect got from all targets of another.
func (t *Table) across(out *bytes.Buffer, by map[string][]string, order []string, pairs map[[2]string]Pair) {
	out.WriteString("## Across dialects\n\nDifferent outcomes of all pairs, and how many.\n\n| from | to | outcomes |\n| --- | --- | --- |\n")
	for _, from := range order {
		for _, to := range order {
			if from == to {
				continue
			}
			counts := map[string]int{}
			for _, a := range by[from] {
				for _, b := range by[to] {
					counts[cell(pairs[[2]string{a, b}])]++
				}
			}
			var parts []string
			for _, c := range slices.Sorted(maps.Keys(counts)) {
				parts = append(parts, fmt.Sprintf("%s × %d", c, counts[c]))
			}
			fmt.Fprintf(out, "| %s | %s | %s |\n", from, to, strings.Join(parts, "; "))
		}
	}
}

func (t *Table) cuts(out *bytes.Buffer) {
	out.WriteString("\n## The beginning of its own stream\n\nEvery build, given the first 1/32 of what it wrote itself: what STOP says, and the state after.\n\n| build, type | STOP | state |\n| --- | --- | --- |\n")
	for _, c := range t.Cut {
		if c.State == "" {
			c.State = "—"
		}
		fmt.Fprintf(out, "| %s | %s | %s |\n", c.Of, c.Stop, c.State)
	}
}

func (t *Table) summary(out *bytes.Buffer) {
	counts := map[string]int{}
	for _, p := range t.Pairs {
		key := p.Outcome
		switch {
		case p.Outcome == Accepted && p.State == Equal:
			key = "accepted, state equal"
		case p.Outcome == Accepted:
			key = "accepted, state different"
		case p.Outcome == Refused:
			key = "refused at " + p.Where + " with " + p.Errno
		}
		counts[key]++
		if p.Outcome == Refused && p.Stop == "ok" {
			counts["after a refused write, STOP succeeded all the same"]++
		}
	}
	out.WriteString("\n## In numbers\n\n| outcome | pairs |\n| --- | --- |\n")
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(out, "| %s | %d |\n", key, counts[key])
	}
}
