// SPDX-License-Identifier: Apache-2.0

package compat

import "testing"

// TestRoom: types that share pools take room from each other.
func TestRoom(t *testing.T) {
	cs, err := NewCatalogs(BuiltIn(), nil)
	if err != nil {
		t.Fatal(err)
	}
	two := Capacity{Model: SharedPools, Pools: []Pool{
		{Name: "ports", Size: 10, Takes: []Take{{"big", 4}, {"", 1}}},
		{Name: "memory", Size: 6, Takes: []Take{{"", 2}}},
	}}
	for _, c := range []struct {
		capacity *Capacity
		name     string
		made     []string
		room     int
		ok       bool
	}{
		{&cs.For("mtty").Capacity, "1", nil, 24, true},
		{&cs.For("mtty").Capacity, "2", nil, 12, true},
		{&cs.For("mtty").Capacity, "2", []string{"1", "2"}, 10, true},
		{&cs.For("mtty").Capacity, "3", nil, 0, false},
		{&cs.For("mtty").Capacity, "1", []string{"3"}, 0, false},
		{&cs.For("i915").Capacity, "GVTg_V5_4", nil, 0, false}, // the pools' sizes differ between cards
		{&cs.For("nvidia").Capacity, "63", nil, 0, false},
		{&two, "big", nil, 2, true},
		{&two, "small", nil, 3, true},
		{&two, "small", []string{"big", "big", "big"}, 0, true},
	} {
		room, ok := c.capacity.Room(c.name, c.made)
		if room != c.room || ok != c.ok {
			t.Errorf("%s after %v: %d, %v; want %d, %v", c.name, c.made, room, ok, c.room, c.ok)
		}
	}
}
