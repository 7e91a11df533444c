// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAccesses(t *testing.T) {
	const begin = "schema: kindred.catalog/v1\nnamespaces: [acme]\nproof:\n"
	c, err := ParseCatalog("x", []byte(begin+`
  exercise:
    - {region: 0, at: 0x38, write: "34 12"}
    - {region: 2, at: 8, write: "ff", types: "V5_*"}
  observe:
    - {region: 7, at: 0, length: 0x100}
`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Access{{Region: 0, At: 0x38, Write: Bytes{0x34, 0x12}}}, c.Proof.Exercises("V4_1")); diff != "" {
		t.Error(diff)
	}
	if got := c.Proof.Exercises("V5_1"); len(got) != 2 {
		t.Errorf("%v", got)
	}
	if diff := cmp.Diff([]Access{{Region: 7, Length: 256}}, c.Proof.Observes("V4_1")); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{
		"exercise: [{region: 0, at: 0}]",
		"exercise: [{region: 0, at: 0, write: xyz}]",
		"exercise: [{region: 0, at: 0, write: abc}]",
		"exercise: [{region: 0, at: 0, write: ab, length: 1}]",
		"observe: [{region: 0, at: 0}]",
		"observe: [{region: 0, at: 0, length: 2, write: ab}]",
		"observe: [{region: -1, at: 0, length: 2}]",
		"observe: [{region: 0, at: -1, length: 2}]",
		"observe: [{region: 0, at: 0, length: 2000000}]",
		"observe: [{region: 0, at: 0, length: 1, types: '['}]",
		"observe: [{region: 0, at: 99999999999999999999, length: 1}]",
		"observe: [" + strings.Repeat("{region: 0, at: 0, length: 1},", MaxAccesses+1) + "]",
	} {
		if _, err := ParseCatalog("x", []byte(begin+"  "+bad+"\n")); err == nil {
			t.Errorf("read %.80s", bad)
		} else if !strings.Contains(err.Error(), "line 4") {
			t.Errorf("%.80s: %v does not say where", bad, err)
		}
	}
}
