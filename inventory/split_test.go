// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestSplit: hosts that differ in names and counters alone share their static
// part, and both parts are the inventory again.
func TestSplit(t *testing.T) {
	files, err := filepath.Glob("../demo/recorded/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded inventories: %v", err)
	}
	values := cmp.AllowUnexported(Value{})
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		inv, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if len(inv.Parents) > 0 && len(inv.Parents[0].Types) > 0 {
			inv.Parents[0].Types[0].ListedAt = new(time.Unix(1e9, 0))
		}
		static, own := Split(inv)
		if err := own.Fits(static); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(inv, Join(static, own), values); diff != "" {
			t.Errorf("%s (-whole +joined):\n%s", name, diff)
		}
		twin, _ := Decode(data)
		twin.Host.Name, twin.Devices, twin.Taken = "twin", nil, time.Time{}
		for i := range twin.Parents {
			for j := range twin.Parents[i].Types {
				twin.Parents[i].Types[j].Available, twin.Parents[i].Types[j].Creatable = new(99), No
			}
		}
		other, ownOther := Split(twin)
		one, err := static.Digest()
		two, err2 := other.Digest()
		if one != two || err != nil || err2 != nil {
			t.Errorf("%s: the static parts of twins differ: %s, %s", name, one, two)
		}
		twin.Host.Kernel.Release = Of("another")
		third, _ := Split(twin)
		if three, _ := third.Digest(); three == one {
			t.Errorf("%s: another kernel has the same static part", name)
		}
		simulated := *inv
		simulated.Origin = FromSimulator
		fourth, _ := Split(&simulated)
		if four, _ := fourth.Digest(); four == one || fourth.Origin != FromSimulator {
			t.Errorf("%s: a simulated host has the same static part", name)
		}
		if len(ownOther.Available) > 0 {
			ownOther.Available = ownOther.Available[1:]
			if _, ok := errors.AsType[*Error](ownOther.Fits(static)); !ok {
				t.Errorf("%s: a counter is missing, and it fits", name)
			}
		}
	}
}
