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

// TestOwnValidate: an own part is judged as the whole inventory is.
func TestOwnValidate(t *testing.T) {
	inv := &Inventory{
		Schema: Schema, Origin: FromKernel, Host: Host{Name: "a"},
		Parents: []Parent{{Name: "p", Kind: MdevParent, Types: []Type{{TypeName: TypeName{Namespace: "x", Name: "y"}, Creatable: Yes}}}},
		Devices: []Device{{ID: "1", Parent: "p", InUse: No}, {ID: "2", Parent: "p", InUse: Yes}},
	}
	static, good := Split(inv)
	for what, change := range map[string]func(o *Own){
		"nothing":               func(*Own) {},
		"no name":               func(o *Own) { o.Host = "" },
		"no origin":             func(o *Own) { o.Origin = "" },
		"a device without id":   func(o *Own) { o.Devices[0].ID = "" },
		"a device twice":        func(o *Own) { o.Devices[0].ID = "2" },
		"another parent":        func(o *Own) { o.Devices[0].Parent = "q" },
		"two words on contract": func(o *Own) { o.Devices[0].Contract, o.Devices[0].ContractUnread = new(Contract), true },
		"an attribute twice": func(o *Own) {
			o.Devices[0].Attributes = Attributes{Values: map[string]Value{"a": Of("1")}, Unread: []string{"a"}}
		},
		"in a contract": func(o *Own) {
			o.Devices[0].Contract = &Contract{TypeAttributes: Attributes{Values: map[string]Value{"a": {}}}}
		},
		"an odd answer": func(o *Own) { o.Devices[1].InUse = "perhaps" },
	} {
		own := *good
		own.Devices = append([]Device(nil), good.Devices...)
		change(&own)
		whole, part := Join(static, &own).Validate(), own.Validate(static)
		if (whole == nil) != (what == "nothing") || (whole == nil) != (part == nil) {
			t.Errorf("%s: the whole: %v; the part: %v", what, whole, part)
		}
	}
}
