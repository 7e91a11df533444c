// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"os"
	"strings"
	"testing"
)

// TestBuiltInExamples: every built-in catalog answers its own examples, and has
// one that each rule accepts and one that it refuses.
func TestBuiltInExamples(t *testing.T) {
	for _, c := range BuiltIn() {
		trials, untried, err := c.Try(BuiltIn())
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range trials {
			if x.Wrong != "" {
				t.Errorf("%s:%d: %s: %s", c.Name, x.Line, x.Example, x.Wrong)
			}
		}
		for _, u := range untried {
			t.Errorf("%s:%d: the rule for %s lacks %s", c.Name, u.Line, u.Rule, u.Wants)
		}
		if len(trials) == 0 || len(c.Migration) == 0 || c.Proof.Source == "" || c.Capacity.Source == "" {
			t.Errorf("%s: it has no example, or does not say whether it migrates, how proofs count, or how room is shared", c.Name)
		}
		if c.Build.Source == "" && !c.never() {
			t.Errorf("%s: it does not say what makes a build", c.Name)
		}
	}
}

// TestPageExamples: the catalog that docs/catalogs.md shows answers as it says.
func TestPageExamples(t *testing.T) {
	page, err := os.ReadFile("../docs/catalogs.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```yaml\n")
	text, _, _ = strings.Cut(text, "```")
	c, err := ParseCatalog("docs/catalogs.md", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	trials, untried, err := c.Try(nil)
	if err != nil || len(trials) == 0 {
		t.Fatal(err, len(trials))
	}
	for _, x := range trials {
		if x.Wrong != "" {
			t.Errorf("%s: %s", x.Example, x.Wrong)
		}
	}
	for _, u := range untried {
		t.Errorf("%s lacks %s", u.Rule, u.Wants)
	}
}
