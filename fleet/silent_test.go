// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"testing"
	"time"

	"kindred/inventory"
)

// TestSilentHosts: a host whose inventory is too old is told apart in every
// answer, and is no target of a plan.
func TestSilentHosts(t *testing.T) {
	from, to, old := newHost("00", newType("t", "5", 3)), newHost("01", newType("t", "5", 3)), newHost("02", newType("t", "5", 3))
	old.Taken = old.Taken.Add(-time.Hour)
	f, err := New(newEngine(t), []*inventory.Inventory{from, to, old})
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Source("00/83b8f4f2")
	if err != nil {
		t.Fatal(err)
	}
	for _, policy := range Policies {
		opts := Options{Now: from.Taken.Add(time.Minute), MaxAge: 30 * time.Minute, Policy: policy, Reasons: true}
		one := f.Targets(s, opts)
		if one.Counts[Ready] != 1 || one.Counts[NotReporting] != 1 || len(one.Hosts) != 2 || one.Hosts[1].Group != NotReporting || one.Hosts[1].Age != "1h1m0s" {
			t.Errorf("%s: %v, %+v", policy, one.Counts, one.Hosts)
		}
		if n := len(one.Reasons); n != 2 || one.Reasons[1].Group != NotReporting || one.Reasons[1].Hosts != 1 || one.Reasons[0].Hosts != 1 {
			t.Errorf("%s: %+v", policy, one.Reasons)
		}
		joint, err := f.Joint([]*Source{s}, opts)
		if err != nil || joint.Counts[Ready] != 1 || joint.Counts[NotReporting] != 1 || joint.Hosts[1].Age == "" || len(joint.Reasons) != 2 {
			t.Errorf("%s: %+v, %v", policy, joint, err)
		}
		plan, err := f.Drain([]string{"00", "01"}, DrainOptions{Policy: policy, Now: opts.Now, MaxAge: opts.MaxAge})
		if err != nil || plan.Moved != 0 || plan.Stays[0].Code != StayNowhere {
			t.Errorf("%s: %+v, %v", policy, plan, err)
		}
	}
}

// TestOlderSource: a device found in an older fleet is asked about in a newer
// one, where its own host is still not counted.
func TestOlderSource(t *testing.T) {
	x := NewIndex(newEngine(t))
	put := func(inv *inventory.Inventory) {
		t.Helper()
		static, own := inventory.Split(inv)
		digest, err := x.Static(static)
		if err != nil {
			t.Fatal(err)
		}
		own.Static = digest
		if err := x.Put(own); err != nil {
			t.Fatal(err)
		}
	}
	put(newHost("00", newType("t", "5", 3)))
	put(newHost("01", newType("t", "5", 3)))
	s, err := x.Fleet().Source("00/83b8f4f2")
	if err != nil {
		t.Fatal(err)
	}
	put(newHost("00", newType("t", "5", 2)))
	if answer := x.Fleet().Targets(s, Options{}); answer.Counts[Ready] != 1 || len(answer.Hosts) != 1 || answer.Hosts[0].Host != "01" {
		t.Errorf("%v %+v", answer.Counts, answer.Hosts)
	}
	if err := x.Put(&inventory.Own{Host: "03", Static: "none"}); err == nil {
		t.Error("a static part that nobody told of is taken")
	}
}
