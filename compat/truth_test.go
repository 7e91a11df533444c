// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"kindred/inventory"
)

// truth is what the lab's sample driver was seen to accept.
type truth struct {
	Pairs []struct {
		From    string `json:"from"` // <build>/<type>
		To      string `json:"to"`
		Outcome string `json:"outcome"`
		State   string `json:"state"`
		Config  string `json:"config"`
	} `json:"pairs"`
	Cut []struct {
		Of   string `json:"of"`
		Stop string `json:"stop"`
	} `json:"cut"`
}

func readTruth(t *testing.T) *truth {
	t.Helper()
	data, err := os.ReadFile("../lab/driver/truth.json")
	if err != nil {
		t.Fatal(err)
	}
	table := new(truth)
	if err := json.Unmarshal(data, table); err != nil || len(table.Pairs) == 0 {
		t.Fatal(err, len(table.Pairs))
	}
	return table
}

// TestEpochsAreTrue holds the epochs of the sample driver's catalogs, and what
// they say of streams that were cut, against what the driver did.
func TestEpochsAreTrue(t *testing.T) {
	table := readTruth(t)
	seen := 0
	for _, c := range BuiltIn() {
		for _, e := range c.Epochs {
			in := make(map[string]bool) // builds of the epoch
			for _, s := range e.Builds {
				for part := range s {
					if build, ok := strings.CutPrefix(part, "module:kdx_"); ok {
						in[build] = true
					}
				}
			}
			for _, p := range table.Pairs {
				fromBuild, fromType, _ := strings.Cut(p.From, "/")
				toBuild, toType, _ := strings.Cut(p.To, "/")
				if !in[fromBuild] || !in[toBuild] || fromType != toType {
					continue
				}
				seen++
				if p.Outcome != "accepted" || p.State != "equal" || p.Config != "equal" {
					t.Errorf("%s: epoch %s: %s to %s is %s, state %s, config %s", c.Name, e.Name, p.From, p.To, p.Outcome, p.State, p.Config)
				}
			}
		}
		if !strings.HasPrefix(c.Name, "built-in kdx") {
			continue
		}
		for _, cut := range table.Cut {
			build, _, _ := strings.Cut(cut.Of, "/")
			if !strings.Contains(c.Name, namedFor(build)) || c.badBuild("module:kdx_"+build) {
				continue
			}
			if taken := cut.Stop == "ok"; taken != (c.Proof.Truncated == inventory.Yes) {
				t.Errorf("%s: a stream of %s that was cut: %s", c.Name, cut.Of, cut.Stop)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d pairs were compared", seen)
	}
}

// namedFor is the file of the catalog that is about a build.
func namedFor(build string) string {
	for prefix, file := range map[string]string{"mtty": "kdx-checked.yaml", "hisi": "kdx-checked.yaml", "qat": "kdx-checked.yaml", "xe": "kdx-checked.yaml", "mlx": "kdx-unchecked.yaml", "vio": "kdx-unchecked.yaml", "pds": "kdx-unchecked.yaml"} {
		if strings.HasPrefix(build, prefix) {
			return file
		}
	}
	return "kdx.yaml"
}

// badBuild reports whether builds with the module are known to be bad.
func (c *Catalog) badBuild(part string) bool {
	for _, k := range c.KnownBad {
		for _, s := range k.Builds {
			if _, ok := s[part]; ok {
				return true
			}
		}
	}
	return false
}
