// SPDX-License-Identifier: Apache-2.0

package pci

import (
	"strings"
	"testing"
)

const resources = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n" +
	"0x00000000e0000000 0x00000000e0ffffff 0x0000000000040200\n" +
	"0x0000000000000000 0x0000000000000000 0x0000000000000000\n" +
	"0x00000000d0000000 0x00000000dfffffff 0x000000000014220c\n" +
	"0x0000000000000000 0x0000000000000000 0x0000000000000000\n" +
	"0x0000000000000000 0x0000000000000000 0x0000000000000000"

func TestParseBARs(t *testing.T) {
	for _, c := range []struct{ name, text, want, problem string }{
		{"two BARs", resources, "0,1000000,0,10000000,0,0", ""},
		{"too few", "0x0 0x0 0x0", "", "1 resources"},
		{"two fields", strings.Replace(resources, " 0x0000000000040200", "", 1), "", "is not start, end and flags"},
		{"backwards", strings.Replace(resources, "0x00000000e0ffffff", "0x00000000d0ffffff", 1), "", "ends before it starts"},
		{"not a number", strings.Replace(resources, "0x00000000e0ffffff", "end", 1), "", "invalid syntax"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseBARs(c.text)
			if got != c.want || c.problem == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), c.problem) {
				t.Errorf("%q, %v; want %q, %q", got, err, c.want, c.problem)
			}
		})
	}
}

func FuzzParseBARs(f *testing.F) {
	f.Add(resources)
	f.Add("0x0 0xffffffffffffffff 0x1\n\n\n\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		bars, err := ParseBARs(text)
		if err == nil && strings.Count(bars, ",") != 5 {
			t.Errorf("%q has not six sizes", bars)
		}
	})
}
