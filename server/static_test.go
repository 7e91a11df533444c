// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"testing"

	"kindred/api"
	"kindred/inventory"
)

// TestStaticBound: one host's agent adds so many static parts and no more, until
// what nobody refers to is forgotten; others do as before.
func TestStaticBound(t *testing.T) {
	r := newRig(t)
	s := r.start(r.open())
	put := func(id Identity, n int) error {
		inv := newMachine("a", 1).inventory()
		inv.Modules[0].BuildID = inventory.Of(fmt.Sprint("b", n))
		static, _ := inventory.Split(inv)
		digest, err := static.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return s.Static(WithIdentity(t.Context(), id), digest, static)
	}
	a, b, admin := Identity{Name: "host a", Host: "a"}, Identity{Name: "host b", Host: "b"}, Identity{Name: "admin", Admin: true}
	for n := range mostStatics {
		if err := put(a, n); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, put(a, mostStatics), api.TooManyStatics)
	for n, id := range []Identity{b, admin} {
		if err := put(id, mostStatics+1+n); err != nil {
			t.Errorf("%s: %v", id.Name, err)
		}
	}
	r.pass(unusedFor)
	if err := put(a, mostStatics); err != nil {
		t.Errorf("after %s: %v", unusedFor, err)
	}
}
