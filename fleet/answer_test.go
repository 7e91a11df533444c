// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindred/inventory"
)

// A missing fact is unknown (principle 6): what was looked for on neither host
// is not known to be fine, and forgetting what the source has does not make a
// target ready that has none.
func TestVersionsNotObserved(t *testing.T) {
	for name, c := range map[string]struct{ source, target inventory.Value }{
		"source not observed, target without":  {inventory.Value{}, inventory.None()},
		"neither observed":                     {inventory.Value{}, inventory.Value{}},
		"a version that is none":               {inventory.Of("9.0"), inventory.Of("strange")},
		"source's version that is none":        {inventory.Of("strange"), inventory.Of("9.0")},
		"source not observed, target has some": {inventory.Value{}, inventory.Of("9.0")},
	} {
		if got := manager(ReadyQEMU, "QEMU", oldestQEMU, c.source, c.target); got.Met != inventory.Unknown {
			t.Errorf("%s: %s (%s)", name, got.Met, got.Detail)
		}
	}
}

// The answers do not depend on the order of parents or types in an inventory:
// Check says that it is by host, then parent.
func TestCheckOrder(t *testing.T) {
	make2 := func(flip bool) *inventory.Inventory {
		inv := newHost("01", newType("t", "x", 1), newType("v", "x", 1))
		second := inv.Parents[0]
		second.Name = "q"
		inv.Parents = append(inv.Parents, second)
		if flip {
			inv.Parents[0], inv.Parents[1] = inv.Parents[1], inv.Parents[0]
			for i := range inv.Parents {
				types := inv.Parents[i].Types
				inv.Parents[i].Types = []inventory.Type{types[1], types[0]}
			}
		}
		return inv
	}
	check := func(flip bool) *Check {
		f, err := New(newEngine(t), []*inventory.Inventory{newHost("00", newType("t", "5", 1)), make2(flip)})
		if err != nil {
			t.Fatal(err)
		}
		s, err := f.Source("00/83b8f4f2")
		if err != nil {
			t.Fatal(err)
		}
		return f.Check(s)
	}
	if diff := cmp.Diff(check(false), check(true), values); diff != "" {
		t.Error(diff)
	}
}

func TestMatrixOrder(t *testing.T) {
	matrix := func(flip bool) *Matrix {
		from, to := newHost("00", newType("t", "5", 1)), newHost("01", newType("t", "x", 1))
		second := to.Parents[0]
		second.Name, second.Types = "q", []inventory.Type{newType("t", "5", 1)}
		second.Types[0].DeviceAPI, second.Types[0].Label = inventory.Value{}, inventory.Of("another")
		to.Parents = append(to.Parents, second)
		if flip {
			to.Parents[0], to.Parents[1] = to.Parents[1], to.Parents[0]
		}
		f, err := New(newEngine(t), []*inventory.Inventory{to, from})
		if err != nil {
			t.Fatal(err)
		}
		return f.Matrix()
	}
	if diff := cmp.Diff(matrix(false), matrix(true), values); diff != "" {
		t.Error(diff)
	}
}

// Two types whose full names are spelled alike are two types: ns-a + b and
// ns + a-b.
func TestAmbiguousFullName(t *testing.T) {
	targets := func(flip bool) *Targets {
		to := newHost("01", newType("b", "5", 1), newType("a-b", "5", 1))
		to.Parents[0].Types[0].Namespace = "ns-a"
		if flip {
			types := to.Parents[0].Types
			types[0], types[1] = types[1], types[0]
		}
		return ask(t, Options{}, newHost("00", newType("t", "5", 1)), to)
	}
	if diff := cmp.Diff(targets(false), targets(true), values); diff != "" {
		t.Error(diff)
	}
}
