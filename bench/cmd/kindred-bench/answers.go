// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
)

// same counts the rows when both lists are equal in any order.
func same(a, b []string) (int, error) {
	slices.Sort(a)
	slices.Sort(b)
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return 0, fmt.Errorf("%q is not %q", a[i], b[i])
		}
	}
	if len(a) != len(b) {
		return 0, fmt.Errorf("%d rows are not %d", len(a), len(b))
	}
	return len(a), nil
}

// typeRows brings both lists of types to "parent type api room label".
func typeRows(kindred, mdevctl []byte) (a, b []string) {
	var parent, name string
	facts := make(map[string]string)
	end := func() {
		if name != "" {
			b = append(b, strings.Join([]string{parent, name, facts["Device API"], facts["Available instances"], facts["Name"]}, " "))
		}
		name = ""
		clear(facts)
	}
	for line := range strings.Lines(string(mdevctl)) {
		text := strings.TrimSpace(line)
		switch indent := len(line) - len(strings.TrimLeft(line, " ")); {
		case text == "":
		case indent == 0:
			end()
			parent = text
		case indent <= 2:
			end()
			name = text
		default:
			key, value, _ := strings.Cut(text, ": ")
			facts[key] = value
		}
	}
	end()
	return bodyRows(kindred, 0), b
}

// deviceRows brings both lists of devices to "id parent type".
func deviceRows(kindred, mdevctl []byte) (a, b []string) {
	for line := range strings.Lines(string(mdevctl)) {
		if fields := strings.Fields(line); len(fields) >= 3 {
			b = append(b, strings.Join(fields[:3], " "))
		}
	}
	return bodyRows(kindred, 3), b
}

// bodyRows is a table without its header and the space between columns; of
// each row the first columns, or all for 0.
func bodyRows(table []byte, columns int) []string {
	var rows []string
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if columns > 0 && len(fields) > columns {
			fields = fields[:columns]
		}
		rows = append(rows, strings.Join(fields, " "))
	}
	return rows[min(1, len(rows)):]
}
